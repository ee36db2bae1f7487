"""Chains: taps of a depthwise convolution that lie one step of the walk apart share a pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nupes.arch.chains import CHAIN, band
from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.columns import Tiling
from nupes.compiler.lowering.matrix import Matrix
from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import blocks
from nupes.model.operators import Conv

__all__ = ["Chain", "chain_tilings", "chains_of", "line_count"]


@dataclass(frozen=True, slots=True)
class Chain:
    """Taps of one pass: number ``taps[i]`` is met by step ``steps[i]``, from 0; both rise."""

    taps: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def warm_up(self) -> int:
        """Steps before a row's first pixel."""
        return self.steps[-1]

    @property
    def holes(self) -> bool:
        """Whether a row of the array multiplies a step that meets no tap."""
        return len(self.taps) < CHAIN


def chains_of(op: Conv) -> Iterator[Chain]:
    """Yield chains that hold each tap once: the fewest, of one tap or more."""
    rows, columns = op.kernel
    for first in range(0, rows * columns, columns):
        left = {column * op.dilation[1]: first + column for column in range(columns)}
        while left:
            begin, stride = min(left), op.stride[1]
            steps = tuple(step for step in range(CHAIN) if begin + step * stride in left)
            yield Chain(tuple(left.pop(begin + step * stride) for step in steps), steps)


def line_count(column: int, count: int, width: int) -> int:
    """Return how many rows of ``width`` pixels a block touches that begins in a column."""
    return (column + count - 1) // width + 1


def chain_tilings(
    op: Conv, tiling: Tiling, walk: Walk, pixels: int, config: ArrayConfig
) -> list[Tiling]:
    """Return tilings whose sum is that of a convolution's, with chains where these are faster.

    ``tiling`` has one tile for each tap; channels lie in their own lanes of a word.
    """
    matrix = tiling.matrix
    if (
        not config.chains
        or op.groups < 2
        or len(op.codes) > op.groups
        or matrix.digits.shape[2] > 1
    ):
        return [tiling]
    every = list(chains_of(op))
    chained = [
        chain
        for chain in every
        if chain.warm_up
        and not (chain.holes and min(matrix.zero) < 0)
        and saves(chain, matrix.channels, walk.out_width, pixels, config)
    ]
    taken = {tap for chain in chained for tap in chain.taps}
    single = [tap for tap in range(matrix.taps) if tap not in taken]
    found = []
    for warm_up in sorted({chain.warm_up for chain in chained}, reverse=True):
        several = [chain for chain in chained if chain.warm_up == warm_up]
        taps = [chain.taps[0] for chain in several]
        moved = moved_place(tiling, taps)
        found.append(replace(moved, matrix=chain_matrix(matrix, several, config), warm_up=warm_up))
    if single:
        digits = matrix.digits[:, single]
        found.append(replace(moved_place(tiling, single), matrix=replace(matrix, digits=digits)))
    return found


def moved_place(tiling: Tiling, taps: Sequence[int]) -> Tiling:
    """Return a tiling whose taps begin where some of another one's do."""
    place = tiling.place
    return replace(tiling, place=lambda plane, word, tap: place(plane, word, taps[tap]))


def saves(chain: Chain, channels: int, width: int, pixels: int, config: ArrayConfig) -> bool:
    """Whether a chain takes fewer cycles than its taps alone, which follow one another in a run."""
    rows = min(config.rows, channels)
    load = min(config.rows, rows + CHAIN - 1)
    chained = single = 0
    for first, count in blocks(pixels, config.acc_depth):
        lines = line_count(first % width, count, width)
        begin = config.instruction_words + 1
        chained += max(count + chain.warm_up * lines, begin + load)
        single += max(count, begin + rows) + (len(chain.taps) - 1) * max(count, rows)
    return chained < single


def chain_matrix(matrix: Matrix, chains: Sequence[Chain], config: ArrayConfig) -> Matrix:
    """Return the matrix of some chains of a depthwise convolution's: what were taps are chains, and
    each channel has three rows."""
    lanes = np.arange(matrix.channels) % config.lanes
    bands = np.array([band(lane, config) for lane in range(config.lanes)])
    tops = bands.min(axis=1)
    places = (bands - tops[:, None])[lanes]
    shape = len(matrix.tables), len(chains), CHAIN, matrix.channels
    zero = np.maximum(np.array(matrix.zero), 0).astype(np.uint8)
    digits = np.broadcast_to(zero[:, None, None, None], shape).copy()
    channels = np.arange(matrix.channels)
    for index, chain in enumerate(chains):
        for tap, step in zip(chain.taps, chain.steps, strict=True):
            row = places[:, chain.warm_up - step]
            digits[:, index, row, channels] = matrix.digits[:, tap, 0]
    starts = channels // config.rows * config.rows + tops[lanes]
    return replace(matrix, digits=digits, starts=starts)
