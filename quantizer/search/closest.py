"""The closest vector: codes whose errors, seen through the moments, make up for one another.

For moments ``M`` and real weights ``w`` the codes are sought with least ``(v - w) M (v - w)'``.
Weights are rounded in turn, each error spread over those that follow (GPTQ, which is Babai's
nearest plane; Chen et al., arXiv 2507.18553); several beginnings may go on side by side (K-best
sphere decoding; Guo and Nilsson, 2006). Errors are spread within a block of weights at once and to
all others after it, by one product of matrices.
"""

import numpy as np

from nupes.model.codebook import Codebook

__all__ = ["BLOCK", "damp", "decode", "pivots"]

RIDGE = 1e-6
"""Added to the moments before they are factored, relative to the largest."""

BLOCK = 32
"""Weights whose errors are spread together."""

BEGINNINGS = 4096
"""Beginnings that are extended at a time, of all channels together."""

NOISE = 0.3
"""Standard deviation of the noise on the logarithm of each moment, which makes orders differ."""


def damp(gram: np.ndarray, share: float = RIDGE) -> np.ndarray:
    """Return moments (g, k, k) with a ridge: a share of the group's largest, or 1 in a group
    without any, whose weights are then rounded to nearest."""
    largest = np.einsum("gkk->gk", gram).max(1)
    ridge = np.where(largest > 0, share * largest, 1.0)
    return gram + ridge[:, None, None] * np.eye(gram.shape[1])


def pivots(gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an order (g, k) of weights in which their errors cost little, one of many.

    A weight's error costs what the weights that follow cannot make up for, the Schur complement of
    their moments. The last weight has the least moment, and each one before it the least that is
    left when those after it make up; a little noise makes one order to several.
    """
    groups, size = gram.shape[:2]
    left = damp(gram)
    moment = np.einsum("gkk->gk", left)
    least = RIDGE * moment.max(1, keepdims=True)
    moment = np.maximum(moment, least)
    order = np.zeros((groups, size), np.int64)
    each = np.arange(groups)
    for start in range(0, size, BLOCK):
        rows = np.zeros((groups, min(BLOCK, size - start), size))
        for place in range(rows.shape[1]):
            noise = np.exp(rng.normal(0, NOISE, (groups, size)))
            last = np.argmin(moment * noise, axis=1)
            order[:, size - 1 - start - place] = last
            known = rows[each, :place, last][:, None] @ rows[:, :place]
            row = (left[each, last] - known[:, 0]) / np.sqrt(moment[each, last])[:, None]
            # No row is longer than its moments allow, but where rounding made them indefinite.
            rows[:, place] = row = np.clip(row, -np.sqrt(moment), np.sqrt(moment))
            moment = np.maximum(moment - row**2, least)
            moment[each, last] = np.inf
        left -= rows.transpose(0, 2, 1) @ rows
    return order


def decode(
    weight: np.ndarray,
    gram: np.ndarray,
    codebook: Codebook,
    scale: np.ndarray,
    order: np.ndarray,
    width: int,
) -> np.ndarray:
    """Return codes (g, n, k) of weights (g, n, k) in units of ``scale`` (g, n), found weight after
    weight in an order (g, k); the ``width`` least costly beginnings of a channel go on."""
    places = np.broadcast_to(order[:, None], weight.shape)
    wishes = np.take_along_axis(weight, places, 2) / scale[..., None]
    size = weight.shape[2]
    wishes, group = wishes.reshape(-1, size), np.repeat(np.arange(len(weight)), weight.shape[1])
    upper = factor(gram, order)
    count = max(1, BEGINNINGS // width)
    found = []
    for start in range(0, len(wishes), count):
        groups = group[start : start + count]
        groups = groups[:1] if groups[0] == groups[-1] else groups
        found.append(walk(wishes[start : start + count], upper[groups], codebook, width))
    codes = np.zeros(weight.shape, np.uint8)
    np.put_along_axis(codes, places, np.concatenate(found).reshape(weight.shape), 2)
    return codes


def factor(gram: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the upper factor U (g, k, k) of ``M^-1 = U' U``, the moments in an order (g, k) and
    with a ridge.

    With ``M = R R'`` for an upper R, from the Cholesky factor of M in reverse order, it is
    ``R^-1``: no inverse of M, which may be badly conditioned. The output error of codes is the sum
    of ``(error_k / U_kk)^2``. Moments that rounding made indefinite get a larger ridge.
    """
    matrix = np.take_along_axis(gram, order[:, :, None], 1)
    matrix = np.take_along_axis(matrix, order[:, None], 2)
    reverse = (slice(None), slice(None, None, -1), slice(None, None, -1))
    share = RIDGE
    while True:
        try:
            return np.linalg.inv(np.linalg.cholesky(damp(matrix, share)[reverse])[reverse])
        except np.linalg.LinAlgError:
            share *= 10


def walk(wishes: np.ndarray, upper: np.ndarray, codebook: Codebook, width: int) -> np.ndarray:
    """Return the codes (n, k) of channels whose real weights, in units of levels, are ``wishes``
    (n, k); ``upper`` (n, k, k), or (1, k, k) for all of them, spreads the errors."""
    channels, size = wishes.shape
    levels = codebook.levels.astype(np.float64)
    channel = np.arange(channels)[:, None]
    rest, cost = wishes[:, None], np.zeros((channels, 1))
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        block = upper[:, None, start:stop, start:stop]
        left, made = rest[..., : stop - start].copy(), []
        for k in range(stop - start):
            unit, code = block[..., k, k], codebook.nearest(left[..., 0])
            parent = np.zeros_like(code)
            if width > 1:
                code, parent, cost = branch(left[..., 0], code, levels, unit, cost, width)
                left = left[channel, parent]
            error = (left[..., 0] - levels[code]) / unit
            taken.append((code, parent))
            made.append(error)
            left = left[..., 1:]
            left -= error[..., None] * block[..., k, k + 1 :]
        errors = np.empty((*cost.shape, stop - start))
        origin = np.broadcast_to(np.arange(cost.shape[1]), cost.shape)
        for k in reversed(range(stop - start)):
            errors[..., k] = made[k][channel, origin]
            origin = taken[start + k][1][channel, origin]
        rest = rest[channel, origin, stop - start :]
        rest -= spread(errors, upper[:, start:stop, stop:])
    best = cost.argmin(1)[:, None]
    codes = np.zeros(wishes.shape, np.uint8)
    for k in reversed(range(size)):
        code, parent = taken[k]
        codes[:, k : k + 1], best = code[channel, best], parent[channel, best]
    return codes


def spread(errors: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return errors (n, b, m) times ``upper`` (n, m, r), or (1, m, r): then one product."""
    if len(upper) > 1:
        return errors @ upper
    return (errors.reshape(-1, errors.shape[2]) @ upper[0]).reshape(*errors.shape[:2], -1)


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
    channel, top = np.arange(len(wish))[:, None], len(levels) - 1
    places, near = np.arange(top + 1), levels[code]
    below, above = np.abs(places - 1), top - np.abs(top - places - 1)
    beside = np.where(wish < near, below[code], above[code].clip(0)).astype(np.uint8)
    codes = np.concatenate([code, beside], axis=1)
    away = np.concatenate([wish - near, wish - levels[beside]], axis=1)
    costs = np.concatenate([cost, cost], axis=1) + np.square(away / unit)
    kept = np.broadcast_to(np.arange(costs.shape[1]), costs.shape)
    if costs.shape[1] > width:
        kept = np.argpartition(costs, width - 1, axis=1)[:, :width]
    parent = (kept % wish.shape[1]).astype(np.uint8)
    return codes[channel, kept], parent, costs[channel, kept]
