"""The codebook of a layer's weights: the power exponent that costs its outputs the least."""

from collections.abc import Sequence

import numpy as np

from nupes.arch.cells import codebook_rule
from nupes.model.codebook import Codebook, Family, make_codebook
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.solver import STEPS, Solution, compose

__all__ = ["EXPONENTS", "choose_weights", "network_exponent"]

EXPONENTS = np.arange(0.2, 1.21, 0.1).round(4)
"""Coarse grid of power exponents. Heavy-tailed weights have several valleys, so the grid comes
first."""

REFINEMENT = (0.05, 0.025)
"""Steps of the finer searches around the best exponent."""

MIDRISE_BITS = 4
"""Most bits at which levels without a zero are tried: one more, of four at 2 bits, of 16 at 4."""

SAMPLE = 1 << 16
"""Weights on which codebooks are compared; of larger layers some channels of each group are, evenly
spread, ``FEWEST`` at least."""

FEWEST = 16

WEIGHT_LMAX = 127
"""Outermost level of power weights."""


def choose_weights(
    weight: np.ndarray,
    gram: np.ndarray,
    bits: int,
    recipe: Recipe,
    exponent: float | None = None,
) -> tuple[Codebook, Solution]:
    """Return the codebook of a layer's weights (g, n, k), and their codes.

    The exponent of a power codebook minimises the output error summed over channels, unless it is
    given, by the caller or by the cells: coarse grid, then refined. Up to 4 bits mid-rise levels
    are tried too, where cells hold them.
    """
    if recipe.metric == "weight":
        gram = np.ones((gram.shape[0], gram.shape[-1]))
    codebook, solution = search_codebooks(weight, gram, bits, recipe, exponent)
    for name in recipe.finish:
        solution = STEPS[name](weight, gram, codebook, solution)
    return codebook, solution


def search_codebooks(
    weight: np.ndarray, gram: np.ndarray, bits: int, recipe: Recipe, exponent: float | None
) -> tuple[Codebook, Solution]:
    """Return the codebook that costs the outputs least, and codes for it."""
    solver = compose(*(STEPS[name] for name in recipe.steps))
    if recipe.family == "uniform" or bits == 8:
        codebook = make_codebook("uniform", bits, signed=True)
        return codebook, solver(weight, gram, codebook)
    rule = codebook_rule(recipe.cell, bits, signed=True, weight=True)
    if rule.exponents is not None:
        (exponent,) = rule.exponents
    if exponent is not None:
        lmax = rule.lmax_of(2 ** (bits - 1) - 1) or WEIGHT_LMAX
        codebook = make_codebook("power", bits, True, lmax, exponent)
        return codebook, solver(weight, gram, codebook)
    some = sample_channels(weight)
    tried: dict[tuple[Family, float], tuple[float, Codebook, Solution]] = {}

    def attempt(kind: Family, exponent: float) -> None:
        key = (kind, round(exponent, 4))
        if key not in tried and 0.2 <= key[1] <= 1.2:
            codebook = make_codebook(kind, bits, True, WEIGHT_LMAX, key[1])
            solution = solver(some, gram, codebook)
            tried[key] = (float(solution.error.sum()), codebook, solution)

    midrise = bits <= MIDRISE_BITS and rule.midrise
    kinds: list[Family] = ["power", "power-midrise"] if midrise else ["power"]
    for kind in kinds:
        for coarse in EXPONENTS:
            attempt(kind, float(coarse))
    for step in REFINEMENT:
        kind, best = min(tried, key=lambda key: tried[key][0])
        attempt(kind, best - step)
        attempt(kind, best + step)
    _, codebook, solution = min(tried.values(), key=lambda item: item[0])
    return codebook, solution if some is weight else solver(weight, gram, codebook)


def sample_channels(weight: np.ndarray) -> np.ndarray:
    """Return weights (g, n, k) of all channels, or of some where they are many."""
    groups, channels, size = weight.shape
    count = max(FEWEST, SAMPLE // (groups * size))
    if count >= channels:
        return weight
    return weight[:, np.linspace(0, channels - 1, count).astype(np.int64)]


def network_exponent(weights: Sequence[np.ndarray], bits: Sequence[int], p: float = 2.0) -> float:
    """Return the one exponent that reconstructs all weights (n, k) best at their bits, without
    data: least ``sum |W - dequantize(quantize(W))|_p``, each channel scaled to its largest weight.

    Source: PowerQuant (Yvinec et al., arXiv 2301.09858), whose Nelder-Mead search a grid and its
    refinement replace, because the error of heavy-tailed weights has several valleys.
    """

    def error(exponent: float) -> float:
        total = 0.0
        for weight, count in zip(weights, bits, strict=True):
            codebook = make_codebook("power", count, True, WEIGHT_LMAX, exponent)
            scale = np.abs(weight).max(1, keepdims=True) / codebook.levels[-1]
            scale = np.where(scale > 0, scale, 1.0)
            delta = weight - scale * codebook.levels[codebook.nearest(weight / scale)]
            total += float((np.abs(delta) ** p).sum() ** (1 / p))
        return total

    tried = {float(exponent): error(float(exponent)) for exponent in EXPONENTS}
    for step in (*REFINEMENT, REFINEMENT[-1] / 2):
        best = min(tried, key=lambda exponent: tried[exponent])
        for exponent in (round(best - step, 4), round(best + step, 4)):
            if EXPONENTS[0] <= exponent <= EXPONENTS[-1]:
                tried.setdefault(exponent, error(exponent))
    return min(tried, key=lambda exponent: tried[exponent])
