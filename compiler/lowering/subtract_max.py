"""Distances from a token's largest channel: an offset of the token stage."""

from nupes.arch.isa import Scaled, Statistic
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.stationary import need_attention
from nupes.compiler.lowering.tokens import statistics, token_work
from nupes.model.layer import Layer

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return the distances as work of the array, which adds nothing up."""
    need_attention(layer, context.config)
    source = context.aligned(layer, layer.inputs[0])
    gathered = statistics(layer, source, Statistic.LARGEST, context.config)
    return token_work(layer, context, source, gathered, 1, Scaled.SCORE)
