"""Weighted means: a matrix product, and the reciprocal of each token's sum of weights."""

from dataclasses import replace
from typing import cast

from nupes.arch.isa import Scaled, Statistic
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.stationary import need_attention, stationary_columns
from nupes.compiler.lowering.tokens import statistics
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer, Post
from nupes.model.operators import WeightedMean

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a weighted mean as work of the array."""
    config = context.config
    need_attention(layer, config)
    op, source = cast(WeightedMean, layer.op), context.aligned(layer, layer.inputs[0])
    height, width, _ = layer.output.shape
    columns = stationary_columns(layer, context, source, op.terms, False)
    finish = replace(context.finish(layer, cast(Post, layer.post)), scaled=Scaled.SUM)
    gathered = statistics(layer, source, Statistic.TOTAL, config)
    return (ArrayWork(Region(height, width), columns, finish, gathered),)
