"""Codebooks of stored tensors by their bits, sides of zero and exponent."""

import numpy as np

from nupes.model.codebook import Codebook, make_codebook, table_codebook

__all__ = [
    "UNSIGNED_LMAX",
    "fits_squares",
    "make_levels",
    "offset_uniform",
    "reach",
    "two_sided_power",
]

UNSIGNED_LMAX = 255
SIGNED_LMAX = 127


def make_levels(
    bits: int, signed: bool, below: int, exponent: float | None, squares: bool = False
) -> Codebook:
    """Return the codebook of one candidate; with ``squares`` each side ends at its number of steps
    squared."""
    if exponent is None:
        if not signed:
            return make_codebook("uniform", bits, signed=False)
        if below == 2 ** (bits - 1) - 1 and bits < 8:
            return make_codebook("uniform", bits, signed=True)
        return offset_uniform(bits, below)
    above = 2**bits - 1 - below
    if not signed:
        return make_codebook("power", bits, False, above**2 if squares else UNSIGNED_LMAX, exponent)
    if below == above - 1:
        return make_codebook("power", bits, True, below**2 if squares else SIGNED_LMAX, exponent)
    return two_sided_power(bits, below, exponent, above**2 if squares else None)


def two_sided_power(bits: int, below: int, exponent: float, lmax: int | None = None) -> Codebook:
    """Return power levels with ``below`` steps under zero and the rest above.

    ``L[k] = sign(k) * round(lmax * (|k| / q) ** (1 / a))`` for k in ``-below..q``, ``q = 2**bits -
    1 - below``: the power codebook for a bell with one long side (SiLU, GELU), zero included.
    """
    steps = 2**bits - 1 - below
    if lmax is None:
        lmax = UNSIGNED_LMAX if below <= steps else SIGNED_LMAX
    index = np.arange(-below, steps + 1)
    ratio = (np.abs(index) / max(steps, 1)) ** (1 / exponent)
    levels = np.unique(np.sign(index) * np.floor(lmax * ratio + 0.5)).astype(np.int64)
    levels = levels[levels >= -UNSIGNED_LMAX]
    return Codebook(levels, bits, "table", bool(levels[0] < 0), lmax, exponent)


def offset_uniform(bits: int, below: int) -> Codebook:
    """Return the uniform levels ``-below..2**bits - 1 - below``."""
    return table_codebook(np.arange(-below, 2**bits - below), bits)


def fits_squares(bits: int, below: int) -> bool:
    """Return whether the squares of all steps on both sides of zero are levels."""
    above = 2**bits - 1 - below
    return below == above - 1 or max(below, above) ** 2 <= UNSIGNED_LMAX


def reach(codebook: Codebook) -> float:
    """Return the largest magnitude of the levels."""
    return float(np.abs(codebook.levels).max())
