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

__all__ = ["Chain", "Grid", "best_chains", "chain_tilings", "chains_of"]


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


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows of ``width`` pixels, ``pixels`` in all, that a walk goes through with a ``stride``,
    and how far apart it finds the taps of each row of the kernel."""

    width: int
    pixels: int
    stride: int
    taps: tuple[tuple[int, ...], ...]
    dilation: int

    @classmethod
    def of(cls, op: Conv, walk: Walk, pixels: int, by_columns: bool) -> "Grid":
        """Return the grid of a convolution's walk, which may go down the columns of the result."""
        numbers = np.arange(op.kernel[0] * op.kernel[1]).reshape(op.kernel)
        lines = numbers.T if by_columns else numbers
        dilation = op.dilation[0 if by_columns else 1]
        taps = tuple(tuple(line) for line in lines.tolist())
        return cls(walk.out_width, pixels, walk.stride_x, taps, dilation)


def chains_of(grid: Grid) -> Iterator[Chain]:
    """Yield chains that hold each tap once: the fewest, of one tap or more."""
    for taps in grid.taps:
        left = {place * grid.dilation: tap for place, tap in enumerate(taps)}
        while left:
            begin = min(left)
            steps = tuple(step for step in range(CHAIN) if begin + step * grid.stride in left)
            yield Chain(tuple(left.pop(begin + step * grid.stride) for step in steps), steps)


def best_chains(grid: Grid, matrix: Matrix, config: ArrayConfig) -> tuple[list[Chain], int]:
    """Return the chains of several taps with which a depthwise convolution takes the fewest cycles,
    and these cycles, of one plane of a word of channels.

    The LOADs of the layer's parameters go on beside all passes but the last one: where a chain is
    the only pass, it must save as much.
    """
    found, cycles = [], 0
    every, words = list(chains_of(grid)), 1 + any(matrix.joined)
    parameters = 2 * (config.instruction_words + 1 + config.cols) * (len(every) == 1)
    for chain in every:
        together = chain_cycles(chain, grid, matrix.channels, words, config)
        apart = single_cycles(len(chain.taps), grid, matrix.channels, words, config)
        able = chain.warm_up and not (chain.holes and min(matrix.zero) < 0)
        if able and together + parameters < apart:
            found.append(chain)
            apart = together
        cycles += apart
    return found, cycles


def chain_cycles(chain: Chain, grid: Grid, channels: int, words: int, config: ArrayConfig) -> int:
    """Return the cycles of a pass of a chain: of its steps, or of its weights, so many words a row,
    if that is more."""
    rows = config.rows if reaches_others(config) else min(config.rows, channels + CHAIN - 1)
    load = rows * words
    cycles = 0
    for first, count in blocks(grid.pixels, config.acc_depth):
        lines = (first % grid.width + count - 1) // grid.width + 1
        cycles += max(count + chain.warm_up * lines, load)
    return cycles


def reaches_others(config: ArrayConfig) -> bool:
    """Whether the chains of a column multiply a row that streams another channel's lane: below the
    rows of its own channel as well, which must then have weights."""
    return config.rows != config.cols


def single_cycles(taps: int, grid: Grid, channels: int, words: int, config: ArrayConfig) -> int:
    """Return the cycles of so many passes of one tap each."""
    load = min(config.rows, channels) * words
    return taps * sum(max(count, load) for _, count in blocks(grid.pixels, config.acc_depth))


def chain_tilings(tiling: Tiling, chains: Sequence[Chain], config: ArrayConfig) -> list[Tiling]:
    """Return tilings whose sum is that of a depthwise convolution's, which has one tile for each
    tap: some taps in chains. Channels lie in their own lanes of a word."""
    matrix = tiling.matrix
    taken = {tap for chain in chains for tap in chain.taps}
    single = [tap for tap in range(matrix.taps) if tap not in taken]
    found = []
    for warm_up in sorted({chain.warm_up for chain in chains}, reverse=True):
        several = [chain for chain in chains if chain.warm_up == warm_up]
        moved = from_taps(tiling, [chain.taps[0] for chain in several])
        weights = chain_matrix(matrix, several, config)
        found.append(replace(moved, matrix=weights, warm_up=warm_up))
    if single:
        weights = replace(matrix, digits=matrix.digits[:, single])
        found.append(replace(from_taps(tiling, single), matrix=weights))
    return found


def from_taps(tiling: Tiling, taps: Sequence[int]) -> Tiling:
    """Return a tiling whose tiles begin where some taps of another one's do."""
    place = tiling.place
    return replace(tiling, place=lambda plane, word, index: place(plane, word, taps[index]))


def chain_matrix(matrix: Matrix, chains: Sequence[Chain], config: ArrayConfig) -> Matrix:
    """Return the matrix of some chains of a depthwise convolution's: what were taps are chains, and
    each channel has three rows."""
    channels = np.arange(matrix.channels)
    lanes = channels % config.lanes
    bands = np.array([band(lane, config) for lane in range(config.lanes)])
    tops = bands.min(axis=1)
    rows = (bands - tops[:, None])[lanes]
    shape = len(matrix.tables), len(chains), CHAIN, matrix.channels
    zero = np.maximum(np.array(matrix.zero), 0).astype(np.uint8)
    digits = np.broadcast_to(zero[:, None, None, None], shape).copy()
    for index, chain in enumerate(chains):
        for tap, step in zip(chain.taps, chain.steps, strict=True):
            digits[:, index, rows[:, chain.warm_up - step], channels] = matrix.digits[:, tap, 0]
    starts = channels // config.rows * config.rows + tops[lanes]
    return replace(matrix, digits=digits, starts=starts, whole=reaches_others(config))
