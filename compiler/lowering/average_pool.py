"""Average pools: the whole window streams past one identity tile."""

from typing import cast

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums, map_stream
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import identity_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer, Post
from nupes.model.operators import AveragePool

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return an average pool as work of the array."""
    op, config, post = cast(AveragePool, layer.op), context.config, cast(Post, layer.post)
    source = context.source(layer.inputs[0])
    height, width, channels = layer.output.shape
    operands = layer_operands(layer, source.tensor, source.planes, config)
    walk = window_walk(layer, op, source.shape, source.layout, whole=True)
    matrix = identity_matrix(channels, channels, 0, operands, source.lead)
    tiling = Tiling(matrix, operands, map_stream(op, source, walk))
    check_sums(layer, tiling, op.kernel[0] * op.kernel[1], config)
    work = ArrayWork(
        Region(height, width), all_columns(tiling, config), context.finish(layer, post)
    )
    return (work,)
