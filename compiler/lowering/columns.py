"""Columns: a layer's matrix over what streams, cut into passes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.context import Source
from nupes.compiler.lowering.matrix import CLEARING, MANY, Matrix, WeightTile, partial_sum_bound
from nupes.compiler.lowering.operands import LayerOperands, pair_entries
from nupes.compiler.lowering.passes import (
    Column,
    MapStream,
    Pass,
    PatchStream,
    Payload,
    Second,
    Stored,
    Tables,
)
from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import PatchLayout
from nupes.model.errors import CapacityError
from nupes.model.layer import Layer
from nupes.model.operators import Window

__all__ = [
    "Place",
    "Tiling",
    "all_columns",
    "check_bound",
    "check_sums",
    "column_tiles",
    "map_stream",
    "patch_stream",
]

Place = Callable[[int, int, int], MapStream | PatchStream]
"""The stream of a plane, a word of a pixel, and a tap."""


@dataclass(frozen=True, eq=False)
class Tiling:
    """A matrix whose tiles all read one tensor; sums are multiplied by the level of ``times``. Its
    taps are chains if there is a ``warm_up``. So many ``pixels`` of a block stream past each."""

    matrix: Matrix
    operands: LayerOperands
    place: Place
    times: Second | None = None
    pixels: int = MANY
    warm_up: int = 0

    @property
    def largest(self) -> int:
        """The largest magnitude of any partial sum, before it is multiplied."""
        return partial_sum_bound(self.matrix, self.operands.activations.levels)


class Cutter:
    """Cuts a tiling into the passes of its column tiles; what several of them have in common is
    made once."""

    def __init__(self, tiling: Tiling, config: ArrayConfig) -> None:
        self.tiling, self.config = tiling, config
        self.tables = cache(partial(pass_tables, tiling.operands, config=config))
        self.stream = cache(self.stream_of)
        self.tiles = cache(self.tiles_of)

    def passes(self, column: int) -> list[Pass]:
        """Return the passes of a column tile, in execution order; maybe none."""
        # Other columns than the first one have the same tiles wherever every operand exists.
        alike = min(column, 1) if self.tiling.matrix.dense else column
        passes: list[Pass] = []
        before = CLEARING
        for tile in self.tiles(alike):
            again = passes and before.weights == tile.weights
            kept = passes[-1].stationary if again else None
            passes.append(self.one(tile, column, kept))
            before = tile
        return passes

    def tiles_of(self, column: int) -> list[WeightTile]:
        """Return the tiles of a column."""
        tiling = self.tiling
        planes = len(tiling.operands.activations.planes)
        return tiling.matrix.column_tile(column, planes, self.config, tiling.pixels)

    def clearing(self, column: int) -> Pass:
        """Return the pass without rows that sets a column tile's sums to 0."""
        return self.one(CLEARING, column)

    def one(self, tile: WeightTile, column: int, kept: Payload | Stored | None = None) -> Pass:
        """Return the pass of one tile of weights, or of those of the pass before, which are
        ``kept``."""
        stream, part = self.stream(tile.slice_index, tile.activation_plane, tile.tap)
        words = partial(self.tiling.matrix.payload, tile, column, self.config)
        return Pass(
            stream,
            part,
            kept or Payload(tile.rows, tile.masked, words, tile.joined),
            self.tables(tile.weight_plane, tile.activation_plane),
            self.tiling.times,
            None,
            self.tiling.warm_up,
        )

    def stream_of(self, index: int, plane: int, tap: int) -> tuple[MapStream | PatchStream, int]:
        """Return what streams past slice ``index`` of the channels at a tap, and which part of its
        words enters."""
        config, activations = self.config, self.tiling.operands.activations
        word, part = divmod(index * config.rows, config.lanes)
        stream = self.tiling.place(activations.planes[plane], word, tap)
        joined = any(activations.joined[plane : plane + 1])
        return stream.join() if joined else stream, part // config.rows


def pass_tables(operands: LayerOperands, i: int, j: int, config: ArrayConfig) -> Tables:
    """Return the tables of weight pass ``i`` and activation pass ``j``."""
    return Tables(
        operands.weight_entries(i, config),
        operands.activation_entries(j, config),
        pair_entries(operands, config) if config.mac == "pair" else None,
        operands.weights.shifts[i] + operands.activations.shifts[j],
    )


def column_tiles(
    tilings: Sequence[Tiling], indices: Iterable[int], config: ArrayConfig
) -> tuple[Column, ...]:
    """Return some column tiles, to each of which any tiling may add."""
    cutters = [Cutter(tiling, config) for tiling in tilings]
    found = []
    for index in indices:
        passes = [item for cutter in cutters for item in cutter.passes(index)]
        found.append(Column(index, tuple(passes or [cutters[0].clearing(index)])))
    return tuple(found)


def all_columns(tiling: Tiling, config: ArrayConfig) -> tuple[Column, ...]:
    """Return every column tile of one matrix."""
    return column_tiles([tiling], range(-(-tiling.matrix.channels // config.cols)), config)


def map_stream(window: Window, source: Source, walk: Walk) -> Place:
    """Return where a window's taps stream from a stored map."""

    def place(plane: int, word: int, tap: int) -> MapStream:
        tap_y, tap_x = divmod(tap, window.kernel[1])
        y = tap_y * window.dilation[0] - window.padding[0]
        x = tap_x * window.dilation[1] - window.padding[2]
        return MapStream(walk, source.layout, plane, word, y, x)

    return place


def patch_stream(layout: PatchLayout) -> Place:
    """Return where the words of a packed input stream from."""
    return lambda plane, word, tap: PatchStream(layout, plane, word)


def check_sums(layer: Layer, tiling: Tiling, gain: int, config: ArrayConfig) -> None:
    """Refuse a layer whose accumulators could overflow; every sum is at most ``gain`` times that of
    the matrix."""
    check_bound(layer, tiling.largest * gain, config)


def check_bound(layer: Layer, bound: int, config: ArrayConfig) -> None:
    """Refuse a layer whose accumulators could reach a number that they do not hold."""
    if bound >= 1 << (config.acc_bits - 1):
        raise CapacityError(
            f"layer {layer.name!r}: accumulator could reach {bound}, beyond acc_bits "
            f"{config.acc_bits}; it needs {bound.bit_length() + 1} bits, or fewer weight bits"
        )
