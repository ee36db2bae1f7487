"""Weight codes: for a codebook, the code of every weight and the scale of every output channel.

A solver is a function ``(weight, gram, codebook) -> Solution`` for one matrix product; every solver
serves every codebook. ``round_to_nearest`` is the plain one. ``choose_weights`` searches the
exponent around it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nupes.model.codebook import Codebook, make_codebook

__all__ = ["EXPONENTS", "Solution", "Solver", "choose_weights", "output_error", "round_to_nearest"]

EXPONENTS = np.arange(0.2, 1.21, 0.1).round(4)
"""Coarse grid of power exponents. Heavy-tailed weights have several valleys, so the grid comes
first."""

REFINEMENT = (0.05, 0.025)
"""Steps of the finer searches around the best exponent."""

CLIPS = np.linspace(0.45, 1.0, 12)
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


def apply_moments(weight: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return weights (g, n, k) times the input moments (g, k, k), or their diagonal (g, k)."""
    return weight * gram[:, None] if gram.ndim == 2 else weight @ gram


def output_error(delta: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return the mean squared output error (g, n) of weight errors (g, n, k)."""
    return np.einsum("gnk,gnk->gn", apply_moments(delta, gram), delta)


def round_to_nearest(weight: np.ndarray, gram: np.ndarray, codebook: Codebook) -> Solution:
    """Round each weight to its nearest level, for several clipping points of each channel.

    The scale of rounded levels ``l`` is then the one with the least output error, ``w G l / l G
    l``, which leaves the error ``w G w - (w G l)**2 / l G l``; the clipping point with the least
    error stays.
    """
    levels = codebook.levels.astype(np.float64)
    largest = np.abs(weight).max(axis=2)
    dead = largest == 0
    # Single precision is far below the rounding error of few bits, and twice as fast.
    gram = gram.astype(np.float32 if codebook.bits < 6 else np.float64)
    levels = levels.astype(gram.dtype)
    target = apply_moments(weight, gram.astype(np.float64))
    power = np.einsum("gnk,gnk->gn", target, weight)
    codes = np.zeros(weight.shape, np.uint8)
    scale = np.zeros(largest.shape)
    error = np.full(largest.shape, np.inf)
    for clip in CLIPS:
        step = np.where(dead, 1.0, clip * largest / levels[-1])
        tried = codebook.nearest(weight / step[..., None])
        level = levels[tried]
        square = np.einsum("gnk,gnk->gn", apply_moments(level, gram), level)
        cross = np.einsum("gnk,gnk->gn", target, level)
        fits = (square > 0) & (cross > 0)
        fitted = np.where(fits, cross / np.where(fits, square, 1), step)
        loss = np.maximum(power - 2 * fitted * cross + fitted**2 * square, 0)
        better = loss < error
        codes[better], scale[better], error[better] = tried[better], fitted[better], loss[better]
    return Solution(codes, scale, error)


def choose_weights(
    weight: np.ndarray,
    gram: np.ndarray,
    bits: int,
    family: str,
    solver: Solver = round_to_nearest,
) -> tuple[Codebook, Solution]:
    """Return the codebook of a layer and its codes.

    The exponent of a power codebook minimises the output error summed over channels: coarse grid,
    then refined.
    """
    if family == "uniform":
        codebook = make_codebook("uniform", bits, signed=True)
        return codebook, solver(weight, gram, codebook)
    tried: dict[float, tuple[float, Codebook, Solution]] = {}

    def attempt(exponent: float) -> None:
        key = round(exponent, 4)
        if key not in tried and 0.2 <= key <= 1.2:
            codebook = make_codebook("power", bits, True, WEIGHT_LMAX, key)
            solution = solver(weight, gram, codebook)
            tried[key] = (float(solution.error.sum()), codebook, solution)

    for exponent in EXPONENTS:
        attempt(float(exponent))
    for step in REFINEMENT:
        best = min(tried, key=lambda key: tried[key][0])
        attempt(best - step)
        attempt(best + step)
    _, codebook, solution = min(tried.values(), key=lambda item: item[0])
    return codebook, solution
