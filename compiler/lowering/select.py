"""Selections: an identity tile, moved by an offset."""

from typing import cast

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums, map_stream
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import identity_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer, Post
from nupes.model.operators import Select

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a selection of channels and pixels as work of the array."""
    op, config, post = cast(Select, layer.op), context.config, cast(Post, layer.post)
    source = context.source(layer.inputs[0])
    height, width, channels = layer.output.shape
    operands = layer_operands(layer, source.tensor, source.planes, config)
    walk = window_walk(layer, op, source.tensor.shape, source.layout, whole=False)
    matrix = identity_matrix(source.channels, channels, op.offset, operands, source.lead)
    tiling = Tiling(matrix, operands, map_stream(op, source, walk))
    check_sums(layer, tiling, 1, config)
    work = ArrayWork(
        Region(height, width), all_columns(tiling, config), context.finish(layer, post)
    )
    return (work,)
