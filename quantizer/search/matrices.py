"""Codes of tensors that stand where weights do, such as keys and values of attention."""

from itertools import product

import numpy as np

from nupes.model.codebook import WEIGHT_LEVELS, Codebook, make_codebook
from nupes.quantizer.codes.candidates import reach
from nupes.quantizer.codes.decisions import TensorCode
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.histogram import Sample
from nupes.quantizer.search.tensors import CLIPS, EXPONENTS
from nupes.quantizer.stages.joins import join_tensors
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["choose_matrix", "matrix_roots"]


def matrix_roots(network: FusedNetwork) -> set[str]:
    """Return the first tensor of those that share a code, of all that stand where weights do."""
    root = join_tensors(network).root
    return {
        root[stage.sources[stage.op.matrix]]
        for stage in network.stages
        if stage.op.matrix is not None
    }


def choose_matrix(
    values: np.ndarray, bits: int, recipe: Recipe, importance: np.ndarray | None = None
) -> TensorCode:
    """Return the signed codebook and the scale of least squared error, weighed by ``importance``,
    which broadcasts to the values; levels within those of weights."""
    sample = Sample(values, importance)
    largest = max(-sample.low, sample.high, float(np.finfo(np.float32).tiny))
    books: list[Codebook] = [make_codebook("uniform", bits, signed=True)]
    if recipe.family == "power" and bits < 8:
        lmax = WEIGHT_LEVELS[1]
        books = [make_codebook("power", bits, True, lmax, a) for a in EXPONENTS.tolist()]
    found = [
        TensorCode(book, scale, book.exponent, sample.error(book, scale))
        for book, clip in product(books, CLIPS)
        for scale in [float(clip) * largest / reach(book)]
    ]
    return min(found, key=lambda code: code.error)
