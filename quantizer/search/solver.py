"""Solvers: for a codebook, the code of every weight and the scale of every output channel.

The problem of one layer is ``min (V - W) G (V - W)'`` over ``V = scale * levels[codes]``: weights
``W`` (g, n, k) of g groups and n channels each, and the moments ``G`` of the inputs, (g, k, k) or
their diagonals (g, k). A *step* takes a solution to one that is no worse in any channel; steps
compose, and every step serves every codebook, because it knows of one only its levels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nupes.model.codebook import Codebook
from nupes.quantizer.options.recipe import StepName
from nupes.quantizer.search.closest import BLOCK, decode, pivots

__all__ = [
    "STEPS",
    "Solution",
    "Solver",
    "Step",
    "beam",
    "compose",
    "descend",
    "gptq",
    "output_error",
    "refit",
    "rescale",
    "round_to_nearest",
]

CLIPS = np.linspace(0.45, 1.0, 12)
"""Clipping points tried for each channel, as fractions of its largest magnitude."""

FACTORS = (0.8, 0.9, 1.1, 1.2)
"""Other scales from which each channel is solved again."""

SWEEPS = 3
"""Most sweeps of coordinate descent over all weights."""

WIDTH = 16
"""Beginnings of a channel that ``beam`` keeps."""

ORDERS = 8
"""Orders in which it rounds."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Codes (g, n, k) uint8, scale (g, n) and output error (g, n) float64."""

    codes: np.ndarray
    scale: np.ndarray
    error: np.ndarray


Solver = Callable[[np.ndarray, np.ndarray, Codebook], Solution]
"""(weight, moments, codebook) to a solution."""

Step = Callable[[np.ndarray, np.ndarray, Codebook, Solution], Solution]
"""(weight, moments, codebook, start) to a solution that is no worse in any channel."""


def apply_moments(weight: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return weights (g, n, k) times the input moments (g, k, k), or their diagonal (g, k)."""
    return weight * gram[:, None] if gram.ndim == 2 else weight @ gram


def output_error(delta: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return the mean squared output error (g, n) of weight errors (g, n, k)."""
    return np.einsum("gnk,gnk->gn", apply_moments(delta, gram), delta)


def solution_of(
    weight: np.ndarray, gram: np.ndarray, codebook: Codebook, codes: np.ndarray, scale: np.ndarray
) -> Solution:
    """Return codes and scales with their output error."""
    delta = codebook.levels[codes] * scale[..., None] - weight
    return Solution(codes, scale, np.maximum(output_error(delta, gram), 0))


def better(first: Solution, second: Solution) -> Solution:
    """Return, channel by channel, the solution with less error; the first where they are equal."""
    wins = second.error < first.error
    return Solution(
        np.where(wins[..., None], second.codes, first.codes),
        np.where(wins, second.scale, first.scale),
        np.where(wins, second.error, first.error),
    )


def compose(*steps: Step) -> Solver:
    """Return the solver that rounds to nearest and then takes the steps in turn."""

    def solve(weight: np.ndarray, gram: np.ndarray, codebook: Codebook) -> Solution:
        solution = round_to_nearest(weight, gram, codebook)
        for step in steps:
            solution = step(weight, gram, codebook, solution)
        return solution

    return solve


def round_to_nearest(weight: np.ndarray, gram: np.ndarray, codebook: Codebook) -> Solution:
    """Round each weight to its nearest level, for several clipping points of each channel; of
    those, and the scales fitted to their codes, the one with the least output error stays."""
    levels = codebook.levels.astype(np.float64)
    largest = np.abs(weight).max(axis=2)
    applied = apply_moments(weight, gram)
    best: tuple[np.ndarray, ...] | None = None
    for clip in CLIPS:
        scale = np.where(largest == 0, 1.0, clip * largest / np.abs(levels).max())
        codes = codebook.nearest(weight / scale[..., None])
        level = levels[codes]
        square, cross = output_error(level, gram), np.einsum("gnk,gnk->gn", applied, level)
        for tried in (scale, fit_scale(square, cross, scale)):
            # The output error, but for the part that no code changes.
            error = tried * (tried * square - 2 * cross)
            if best is None:
                best = codes, tried, error
            wins = error < best[2]
            best = (
                np.where(wins[..., None], codes, best[0]),
                np.where(wins, tried, best[1]),
                np.where(wins, error, best[2]),
            )
    assert best is not None
    return solution_of(weight, gram, codebook, best[0], best[1])


def fit_scale(square: np.ndarray, cross: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the scales (g, n) of least error for levels ``l``, ``square = l G l`` and ``cross = w
    G l``; the given ones where that is not positive."""
    fits = (square > 0) & (cross > 0)
    return np.where(fits, cross / np.where(fits, square, 1), scale)


def refit(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Fit each channel's scale to its levels ``l``: ``w G l / l G l``, where that is positive."""
    levels = codebook.levels[start.codes].astype(np.float64)
    applied = apply_moments(levels, gram)
    square = np.einsum("gnk,gnk->gn", applied, levels)
    cross = np.einsum("gnk,gnk->gn", applied, weight)
    scale = fit_scale(square, cross, start.scale)
    return better(start, solution_of(weight, gram, codebook, start.codes, scale))


def gptq(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Round the weights in order of falling moment, each error spread over those that follow.

    Source: Frantar et al., GPTQ, arXiv 2210.17323, equation 2 in its Cholesky form.
    """
    if gram.ndim == 2:
        return start  # Without products of inputs there is nothing to spread.
    order = np.argsort(-np.einsum("gkk->gk", gram), axis=1)
    codes = decode(weight, gram, codebook, start.scale, order, 1)
    return better(start, solution_of(weight, gram, codebook, codes, start.scale))


def beam(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Round as ``gptq``, but keep the ``WIDTH`` best beginnings of each channel at every weight; in
    several orders, each followed by ``refit`` and ``descend``."""
    if gram.ndim == 2:
        return start
    rng = np.random.default_rng(0)
    best = start
    for _ in range(ORDERS):
        order = pivots(gram, rng)
        codes = decode(weight, gram, codebook, best.scale, order, WIDTH)
        found = solution_of(weight, gram, codebook, codes, best.scale)
        for step in (refit, descend, refit, descend):
            found = step(weight, gram, codebook, found)
        best = better(best, found)
    return best


def descend(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Move one weight at a time to its best code, all others fixed, until none moves.

    Every code is open to every weight: with residual ``r = (V - W) G`` the best real value of
    weight k is ``V_k - r_k / G_kk``, and its best code the nearest to that.
    """
    if gram.ndim == 2:
        return start
    levels = codebook.levels.astype(np.float64)
    middle = (levels[1:] + levels[:-1]) / 2
    diagonal = np.einsum("gkk->gk", gram)
    diagonal = np.where(diagonal > 0, diagonal, 1.0)
    codes = start.codes.copy()
    values = levels[codes]
    residual = (values - weight / start.scale[..., None]) @ gram
    size = weight.shape[2]
    for _ in range(SWEEPS):
        moved = False
        for block in (slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)):
            within, moves = gram[:, None, block, block], np.zeros_like(values[:, :, block])
            near = residual[:, :, block].copy()
            for index, k in enumerate(range(block.start, block.stop)):
                wish = values[:, :, k] - near[:, :, index] / diagonal[:, None, k]
                code = np.searchsorted(middle, wish, side="right")
                step = levels[code] - values[:, :, k]
                if step.any():
                    codes[:, :, k], values[:, :, k] = code, levels[code]
                    moves[:, :, index] = step
                    near += step[..., None] * within[:, :, index]
            if moves.any():
                moved = True
                residual += moves @ gram[:, block]
        if not moved:
            break
    return better(start, solution_of(weight, gram, codebook, codes, start.scale))


def rescale(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Solve again from other scales: round with ``gptq``, then ``refit``, ``descend``, ``refit``.

    The best codes of a scale are quickly found, but a scale that is fitted to codes stays near the
    one that they were rounded with.
    """
    best = start
    for factor in FACTORS:
        unknown = np.full_like(start.error, np.inf)
        solution = Solution(start.codes, start.scale * factor, unknown)
        for step in (gptq, refit, descend, refit):
            solution = step(weight, gram, codebook, solution)
        best = better(best, solution)
    return best


STEPS: dict[StepName, Step] = {
    "refit": refit,
    "gptq": gptq,
    "cd": descend,
    "rescale": rescale,
    "beam": beam,
}
"""Steps by name; ``rtn`` is where each composition starts."""
