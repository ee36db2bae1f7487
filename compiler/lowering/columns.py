"""Columns: a layer's matrix over what streams, cut into passes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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

    def passes(self, column: int, config: ArrayConfig) -> list[Pass]:
        """Return the passes of a column tile, in execution order; maybe none."""
        planes = len(self.operands.activations.planes)
        tiles = self.matrix.column_tile(column, planes, config, self.pixels)
        tables = cache(partial(pass_tables, self.operands, config=config))
        passes: list[Pass] = []
        for before, tile in zip([CLEARING, *tiles], tiles, strict=False):
            item = self.one(tile, column, tables, config)
            if passes and before.weights == tile.weights:
                item = replace(item, stationary=passes[-1].stationary)
            passes.append(item)
        return passes

    def clearing(self, column: int, config: ArrayConfig) -> Pass:
        """Return the pass without rows that sets a column tile's sums to 0."""
        return self.one(
            CLEARING, column, partial(pass_tables, self.operands, config=config), config
        )

    def one(
        self, tile: WeightTile, column: int, tables: Callable[[int, int], Tables],
        config: ArrayConfig,
    ) -> Pass:  # fmt: skip
        """Return the pass of one tile of weights."""
        word, part = divmod(tile.slice_index * config.rows, config.lanes)
        activations, index = self.operands.activations, tile.activation_plane
        stream = self.place(activations.planes[index], word, tile.tap)
        words = partial(self.matrix.payload, tile, column, config)
        return Pass(
            stream.join() if any(activations.joined[index : index + 1]) else stream,
            part // config.rows,
            Payload(tile.rows, tile.masked, words, tile.joined),
            tables(tile.weight_plane, tile.activation_plane),
            self.times,
            warm_up=self.warm_up,
        )


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
    found = []
    for index in indices:
        passes = [item for tiling in tilings for item in tiling.passes(index, config)]
        found.append(Column(index, tuple(passes or [tilings[0].clearing(index, config)])))
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
