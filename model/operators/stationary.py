"""What operators share whose second input is a matrix: its rows, its rules, the bound of a sum."""

import numpy as np

from nupes.model.codebook import WEIGHT_LEVELS
from nupes.model.errors import InputError
from nupes.model.tensor import Ends, Shape

__all__ = ["check_terms", "product_bound", "rows_of"]


def rows_of(levels: np.ndarray) -> np.ndarray:
    """Return maps (b, h, w, c) as matrices (b, h * w, c), a row for each pixel in raster order."""
    batch, height, width, channels = levels.shape
    return levels.reshape(batch, height * width, channels)


def check_terms(terms: int, transposed: bool, source: Shape, other: Shape) -> None:
    """Refuse inputs that do not give so many terms to each sum."""
    height, width, channels = other
    found = channels if transposed else height * width
    if source[2] != terms or found != terms:
        what = "channels" if transposed else "pixels"
        raise InputError(
            f"a product of {terms} terms must be of {terms} channels and {terms} {what}, not "
            f"{source[2]} and {found}"
        )


def product_bound(terms: int, source: Ends, other: Ends) -> int:
    """Return the largest magnitude of any partial sum of ``terms`` products of two levels: so many
    times that of the largest magnitudes. Refuse a matrix whose levels are no weights."""
    if other[0] < WEIGHT_LEVELS[0] or other[1] > WEIGHT_LEVELS[1]:
        raise InputError(
            f"levels of a matrix must fit the signed 8 bits of weights, not {other[0]}..{other[1]}"
        )
    return terms * max(map(abs, source)) * max(map(abs, other))
