"""Solvers: for a codebook, the code of every weight and the scale of every output channel.

The problem of one layer is ``min (V - W) G (V - W)'`` over ``V = scale * levels[codes]``: weights
``W`` (g, n, k) of g groups and n channels each, and the moments ``G`` of the inputs, (g, k, k) or
their diagonals (g, k). A *step* takes a solution to one that is no worse in any channel; steps
compose, and every step serves every codebook, because it knows of one only its levels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nupes.model.codebook import Codebook
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.learning.soft import SoftWeight, sharpness
from nupes.quantizer.options.recipe import StepName

__all__ = [
    "STEPS",
    "Solution",
    "Solver",
    "Step",
    "beam",
    "compose",
    "descend",
    "gptq",
    "learn",
    "output_error",
    "refit",
    "rescale",
    "round_to_nearest",
]

CLIPS = np.linspace(0.45, 1.0, 12)
"""Clipping points tried for each channel, as fractions of its largest magnitude."""

LEARN_STEPS = 200
"""Steps of gradient descent."""

LEARN_RATE = 3e-2
"""Its learning rate: in codes for positions, relative for scales."""

FACTORS = (0.8, 0.9, 1.1, 1.2)
"""Other scales from which each channel is solved again."""

SWEEPS = 3
"""Most sweeps of coordinate descent over all weights."""

RIDGE = 1e-6
"""Added to the moments before they are factored, relative to the largest."""

WIDTH = 16
"""Beginnings of a channel that ``beam`` keeps."""

CHANNELS = 64
"""Channels that are decoded at a time."""

ORDERS = 8
"""Orders in which it rounds."""

NOISE = 0.3
"""Standard deviation of the noise on the logarithm of each moment, which makes them differ."""


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
    best = None
    for clip in CLIPS:
        scale = np.where(largest == 0, 1.0, clip * largest / np.abs(levels).max())
        codes = codebook.nearest(weight / scale[..., None])
        tried = solution_of(weight, gram, codebook, codes, scale)
        tried = refit(weight, gram, codebook, tried)
        best = tried if best is None else better(best, tried)
    assert best is not None
    return best


def refit(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Fit each channel's scale to its levels ``l``: ``w G l / l G l``, where that is positive."""
    levels = codebook.levels[start.codes].astype(np.float64)
    applied = apply_moments(levels, gram)
    square = np.einsum("gnk,gnk->gn", applied, levels)
    cross = np.einsum("gnk,gnk->gn", applied, weight)
    fits = (square > 0) & (cross > 0)
    scale = np.where(fits, cross / np.where(fits, square, 1), start.scale)
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
    several orders, each followed by ``refit`` and ``descend``.

    A weight's error costs what the weights that follow cannot make up for, the Schur complement of
    their moments. The order keeps the largest of these small: the last weight has the least moment,
    and each one before it the least that is left when those after it make up; a little noise makes
    one order to several.

    Source: K-best sphere decoding (Guo and Nilsson, 2006) of the closest vector that GPTQ looks for
    (Chen et al., arXiv 2507.18553).
    """
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


def pivots(gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an order (g, k) of weights for ``beam``."""
    groups, size = gram.shape[:2]
    left = gram + RIDGE * np.einsum("gkk->gk", gram).max(1)[:, None, None] * np.eye(size)
    order = np.zeros((groups, size), np.int64)
    each = np.arange(groups)
    for place in range(size):
        moment = np.einsum("gkk->gk", left)
        noise = np.exp(rng.normal(0, NOISE, (groups, size)))
        last = np.argmin(moment * noise, axis=1)
        order[:, size - 1 - place] = last
        row = left[each, last]
        left -= row[:, :, None] * (row / moment[each, last][:, None])[:, None]
        left[each, last, last] = np.inf
    return order


def decode(
    weight: np.ndarray,
    gram: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray,
    order: np.ndarray,
    width: int,
) -> np.ndarray:
    """Return codes (g, n, k) found weight after weight in an order (g, k), each error spread over
    the weights that follow; the ``width`` least costly beginnings of a channel go on.

    With ``M = R R'`` for an upper R, from the Cholesky factor of M in reverse order, the upper
    factor of ``M^-1 = U' U`` is ``R^-1``: no inverse of M, which may be badly conditioned. The
    output error is the sum of ``(error_k / U_kk)^2``.
    """
    size = weight.shape[2]
    matrix = np.take_along_axis(gram, order[:, :, None], 1)
    matrix = np.take_along_axis(matrix, order[:, None], 2)
    ridge = RIDGE * np.einsum("gkk->gk", gram).max(1)[:, None, None] * np.eye(size)
    reverse = (slice(None), slice(None, None, -1), slice(None, None, -1))
    upper = np.linalg.inv(np.linalg.cholesky((matrix + ridge)[reverse])[reverse])
    places = np.broadcast_to(order[:, None], weight.shape)
    wishes = np.take_along_axis(weight, places, 2) / scale[..., None]
    wishes, group = wishes.reshape(-1, size), np.repeat(np.arange(len(weight)), weight.shape[1])
    found = [
        walk(
            wishes[start : start + CHANNELS],
            group[start : start + CHANNELS],
            upper,
            codebook,
            width,
        )
        for start in range(0, len(wishes), CHANNELS)
    ]
    codes = np.zeros(weight.shape, np.uint8)
    np.put_along_axis(codes, places, np.concatenate(found).reshape(weight.shape), 2)
    return codes


def walk(
    wishes: np.ndarray, group: np.ndarray, upper: np.ndarray, codebook: Codebook, width: int
) -> np.ndarray:
    """Return the codes (n, k) of channels whose real weights, in units of levels, are ``wishes``
    (n, k); ``upper`` (g, k, k) of a channel's ``group`` (n,) spreads the errors."""
    channels, size = wishes.shape
    levels = codebook.levels.astype(np.float64)
    channel = np.arange(channels)[:, None]
    left, cost = wishes[:, None].copy(), np.zeros((channels, 1))
    taken = []
    for k in range(size):
        row = upper[group, k, k:][:, None]
        wish, left = left[..., 0], left[..., 1:]
        code = codebook.nearest(wish)
        parent = np.zeros_like(code)
        if width > 1:
            code, parent, cost = branch(wish, code, levels, row[..., 0], cost, width)
            wish, left = wish[channel, parent], left[channel, parent]
        taken.append((code, parent))
        left -= ((wish - levels[code]) / row[..., 0])[..., None] * row[..., 1:]
    best = cost.argmin(1)[:, None]
    codes = np.zeros(wishes.shape, np.uint8)
    for k in reversed(range(size)):
        code, parent = taken[k]
        codes[:, k : k + 1], best = code[channel, best], parent[channel, best]
    return codes


def branch(
    wish: np.ndarray,
    code: np.ndarray,
    levels: np.ndarray,
    unit: np.ndarray,
    cost: np.ndarray,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return code and parent (uint8) and cost, each (channels, ``width`` at most), of the
    beginnings that go on: each of the present ones (channels, b) may take the nearest ``code`` to
    its ``wish``, or the one on the wish's other side; beyond the last code the one before it."""
    top = len(levels) - 1
    beside = np.abs(code.astype(np.int64) + np.where(wish < levels[code], -1, 1))
    beside = (top - np.abs(top - beside)).clip(0).astype(np.uint8)
    codes = np.concatenate([code, beside], axis=1)
    costs = np.tile(cost, 2) + np.square((np.tile(wish, 2) - levels[codes]) / unit)
    kept = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    if costs.shape[1] > width:
        kept = np.argpartition(costs, width - 1, axis=1)[:, :width]
    parent = (kept % wish.shape[1]).astype(np.uint8)
    return np.take_along_axis(codes, kept, 1), parent, np.take_along_axis(costs, kept, 1)


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
    scale = start.scale
    codes = start.codes.copy()
    values = levels[codes]
    residual = (values * scale[..., None] - weight) @ gram / scale[..., None]
    for _ in range(SWEEPS):
        moved = False
        for k in range(weight.shape[2]):
            wish = values[:, :, k] - residual[:, :, k] / diagonal[:, None, k]
            code = np.searchsorted(middle, wish, side="right")
            step = levels[code] - values[:, :, k]
            if not step.any():
                continue
            moved = True
            codes[:, :, k], values[:, :, k] = code, levels[code]
            residual += step[..., None] * gram[:, None, k]
        if not moved:
            break
    return better(start, solution_of(weight, gram, codebook, codes, scale))


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


def learn(weight: np.ndarray, gram: np.ndarray, codebook: Codebook, start: Solution) -> Solution:
    """Move codes and scales by gradient, codes softly rounded (NUPES, as in ``student``)."""
    groups, rows, size = weight.shape
    shape = (groups * rows, size, 1, 1)
    code = WeightCode(codebook, start.codes.reshape(shape), start.scale.reshape(-1))
    module = SoftWeight(weight.reshape(shape), code, learn_exponent=False)
    target, moments = (torch.tensor(a, dtype=torch.float32) for a in (weight, gram))
    unit = max(float(start.error.mean()), float(np.finfo(np.float32).tiny))
    optimizer = torch.optim.Adam([module.position, module.log_scale], LEARN_RATE)
    with torch.enable_grad():
        for step in range(LEARN_STEPS):
            delta = module(sharpness(step / LEARN_STEPS)).reshape(weight.shape) - target
            applied = delta * moments[:, None] if gram.ndim == 2 else delta @ moments
            optimizer.zero_grad()
            ((applied * delta).sum(2).mean() / unit).backward()
            optimizer.step()
    learned = module.harden()
    codes, scale = learned.codes.reshape(weight.shape), learned.scale.reshape(groups, rows)
    return better(start, solution_of(weight, gram, codebook, codes, scale))


STEPS: dict[StepName, Step] = {
    "refit": refit,
    "gptq": gptq,
    "cd": descend,
    "rescale": rescale,
    "beam": beam,
    "learn": learn,
}
"""Steps by name; ``rtn`` is where each composition starts."""
