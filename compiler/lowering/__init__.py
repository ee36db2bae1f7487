"""Layers in, passes of the array out: one module for each kind of operator, found by its kind."""

from collections.abc import Callable

from nupes.compiler.lowering import average_pool, conv, max_pool, select
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import Work
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer
from nupes.model.operators import AveragePool, Conv, MaxPool, Select

__all__ = ["LOWERINGS", "lower"]

LOWERINGS: dict[str, Callable[[Layer, Context], tuple[Work, ...]]] = {
    Conv.kind: conv.lower,
    AveragePool.kind: average_pool.lower,
    Select.kind: select.lower,
    MaxPool.kind: max_pool.lower,
}
"""What makes work of a layer, by the kind of its operator."""


def lower(layer: Layer, context: Context) -> tuple[Work, ...]:
    """Return what the array does for a layer; refuse, by name, what it cannot do."""
    kind = layer.op.kind
    if kind not in LOWERINGS:
        able = ", ".join(sorted(LOWERINGS))
        raise UnsupportedError(
            f"layer {layer.name!r}: {kind} cannot run on the array yet; operators that can: {able}"
        )
    return LOWERINGS[kind](layer, context)
