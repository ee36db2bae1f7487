"""Passes whose weights are a stored tensor: its words as rows, or as columns."""

from collections.abc import Iterator

import numpy as np

from nupes.arch.cells import operands
from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.columns import map_stream
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.operands import entries
from nupes.compiler.lowering.passes import Column, Pass, Stored, Tables
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.placement import check_levels
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.layer import Layer
from nupes.model.operators import Select

__all__ = ["need_attention", "stationary_columns"]


def need_attention(layer: Layer, config: ArrayConfig) -> None:
    """Refuse an array without attention, by the layer's name."""
    if not config.attention:
        raise UnsupportedError(
            f"layer {layer.name!r}: {layer.op.kind} needs an array with attention=True"
        )


def stationary_columns(
    layer: Layer, context: Context, source: Source, terms: int, transposed: bool
) -> tuple[Column, ...]:
    """Return the column tiles of a stored tensor, a layer's second input, past which ``source``
    streams."""
    config, other = context.config, context.aligned(layer, layer.inputs[1])
    check_levels(f"layer {layer.name!r}", other.tensor.codebook, "weight_level_bits", config)
    # The stationary reader brings one digit of the weights at a time.
    weights, activations = operands(config.cell, other.planes, source.planes, stored=True)
    check_terms(layer, terms, (weights.levels, activations.levels), config)
    window = Select.every(source.channels)
    walk = window_walk(layer, window, source.shape, source.layout, whole=False)
    place = map_stream(window, source, walk)

    def passes(column: int) -> Iterator[Pass]:
        for index in range(-(-terms // config.rows)):
            word, part = divmod(index * config.rows, config.lanes)
            rows = min(config.rows, terms - index * config.rows)
            for i in range(other.planes.count):
                stored = tile(other, i, column, index, rows, transposed, config)
                for j, plane in enumerate(activations.planes):
                    entered = entries(activations, j, config)
                    tables = Tables(weights.tables[i], entered, None, activations.shifts[j])
                    stream = place(plane, word, 0)
                    stream = stream.join() if any(activations.joined[j : j + 1]) else stream
                    yield Pass(stream, part // config.rows, stored, tables)

    count = -(-layer.output.shape[2] // config.cols)
    return tuple(Column(index, tuple(passes(index))) for index in range(count))


def tile(
    other: Source, plane: int, column: int, index: int, rows: int, transposed: bool,
    config: ArrayConfig,
) -> Stored:  # fmt: skip
    """Return the weights of slice ``index`` of the terms in a column tile."""
    if transposed:
        group, part = divmod(index * config.rows, config.lanes)
        first, count, part = column * config.cols, config.cols, part // config.rows
    else:
        group, part = divmod(column * config.cols, config.lanes)
        first, count, part = index * config.rows, rows, part // config.cols
    return Stored(other.layout, plane, group, first, rows, part, transposed, count)


def check_terms(
    layer: Layer, terms: int, levels: tuple[np.ndarray, np.ndarray], config: ArrayConfig
) -> None:
    """Refuse sums that could overflow: of every pair of digits at their largest magnitudes."""
    weights, activations = (int(np.abs(side).max(axis=1).sum()) for side in levels)
    bound = terms * weights * activations
    if bound >= 1 << (config.acc_bits - 1):
        raise CapacityError(
            f"layer {layer.name!r}: accumulator could reach {bound}, beyond acc_bits "
            f"{config.acc_bits}; it needs {bound.bit_length() + 1} bits, or fewer terms"
        )
