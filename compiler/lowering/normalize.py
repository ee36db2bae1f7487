"""Normalizations: an offset and a factor of the token stage."""

from typing import cast

from nupes.arch.isa import Scaled, Statistic
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.stationary import need_attention
from nupes.compiler.lowering.tokens import statistics, token_work
from nupes.model.layer import Layer
from nupes.model.operators import Normalize

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a normalization as work of the array, which adds nothing up."""
    need_attention(layer, context.config)
    op, source = cast(Normalize, layer.op), context.aligned(layer, layer.inputs[0])
    statistic = Statistic.DEVIATION if op.centered else Statistic.SQUARES
    numbers = {"channels": op.channels, "epsilon": op.epsilon}
    gathered = statistics(layer, source, statistic, context.config, **numbers)
    return token_work(layer, context, source, gathered, op.channels, Scaled.TERM)
