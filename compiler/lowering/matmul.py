"""Products of two stored tensors: one streams, the other is read as weights."""

from typing import cast

from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.stationary import need_attention, stationary_columns
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer, Post
from nupes.model.operators import Matmul

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a matrix product as work of the array."""
    need_attention(layer, context.config)
    op, source = cast(Matmul, layer.op), context.aligned(layer, layer.inputs[0])
    height, width, _ = layer.output.shape
    columns = stationary_columns(layer, context, source, op.terms, op.transposed)
    finish = context.finish(layer, cast(Post, layer.post))
    return (ArrayWork(Region(height, width), columns, finish),)
