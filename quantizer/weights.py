"""Weight codes: for a codebook, the code of every weight and the scale of every output channel.

A solver is a function ``(weight, gram, codebook) -> Solution`` for one matrix product; every solver
serves every codebook. ``round_to_nearest`` is the plain one. ``choose_weights`` searches the
exponent around it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nupes.model.codebook import Codebook, make_codebook

__all__ = ["EXPONENTS", "Solution", "Solver", "choose_weights", "round_to_nearest"]

EXPONENTS = np.arange(0.2, 1.21, 0.1)
"""Coarse grid of power exponents. Heavy-tailed weights have several valleys, so the grid comes
first."""

REFINEMENT = (0.05, 0.025)
"""Steps of the finer searches around the best exponent."""

CLIPS = np.linspace(0.35, 1.0, 14)
"""Clipping points tried for each channel, as fractions of its largest magnitude."""

WEIGHT_LMAX = 127
"""Outermost level of power weights."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Codes (g, n, k) uint8, scale (g, n) and output error (g, n) float64 of weights (g, n, k)."""

    codes: np.ndarray
    scale: np.ndarray
    error: np.ndarray


Solver = Callable[[np.ndarray, np.ndarray, Codebook], Solution]
"""Weights (g, n, k) of g groups, mean outer products of the inputs (g, k, k) or their diagonals (g,
k), codebook."""


def output_error(delta: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return the mean squared output error (g, n) of weight errors (g, n, k)."""
    if gram.ndim == 2:
        return np.einsum("gnk,gk->gn", delta**2, gram)
    return np.einsum("gnk,gnk->gn", delta @ gram, delta)


def refit_scale(weight: np.ndarray, level: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return the scale (g, n) that minimises the output error of fixed levels (g, n, k); 0 if all
    are 0."""
    if gram.ndim == 2:
        smooth = level * gram[:, None]
    else:
        smooth = level @ gram
    square = np.einsum("gnk,gnk->gn", smooth, level)
    cross = np.einsum("gnk,gnk->gn", smooth, weight)
    return np.where(square > 0, cross / np.where(square > 0, square, 1), 0)


def round_to_nearest(weight: np.ndarray, gram: np.ndarray, codebook: Codebook) -> Solution:
    """Round each weight to its nearest level; clip each channel where its output error is least."""
    levels = codebook.levels.astype(np.float64)
    largest = np.abs(weight).max(axis=2)
    dead = largest == 0
    best = Solution(
        np.zeros(weight.shape, np.uint8),
        np.zeros(largest.shape),
        np.full(largest.shape, np.inf),
    )
    for clip in CLIPS:
        scale = np.where(dead, 1.0, clip * largest / levels[-1])
        codes = codebook.nearest(weight / scale[..., None])
        level = levels[codes]
        fitted = refit_scale(weight, level, gram)
        for candidate in (scale, np.where(fitted > 0, fitted, scale)):
            error = output_error(weight - candidate[..., None] * level, gram)
            better = error < best.error
            best.codes[better] = codes[better]
            best.scale[better] = candidate[better]
            best.error[better] = error[better]
    return best


def choose_weights(
    weight: np.ndarray,
    gram: np.ndarray,
    bits: int,
    family: str,
    solver: Solver = round_to_nearest,
) -> tuple[Codebook, Solution]:
    """Return the codebook of a layer and its codes.

    The exponent of a power codebook minimises the output error summed over channels, each relative
    to its output's power so that no channel decides alone: coarse grid, then refined.
    """
    if family == "uniform":
        codebook = make_codebook("uniform", bits, signed=True)
        return codebook, solver(weight, gram, codebook)
    tried: dict[float, tuple[float, Codebook, Solution]] = {}

    def attempt(exponent: float) -> None:
        key = round(float(exponent), 4)
        if key not in tried and 0.2 <= key <= 1.2:
            codebook = make_codebook("power", bits, True, WEIGHT_LMAX, key)
            solution = solver(weight, gram, codebook)
            tried[key] = (float(solution.error.sum()), codebook, solution)

    for exponent in EXPONENTS:
        attempt(exponent)
    for step in REFINEMENT:
        best = min(tried, key=lambda key: tried[key][0])
        attempt(best - step)
        attempt(best + step)
    _, codebook, solution = min(tried.values(), key=lambda item: item[0])
    return codebook, solution
