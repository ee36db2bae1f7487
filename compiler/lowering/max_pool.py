"""Max-pools: all planes of all taps of a window through a unit of their own, word by word."""

from dataclasses import replace
from typing import cast

from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import MapStream, PoolWork
from nupes.compiler.lowering.walks import window_walk, wrap
from nupes.model.layer import Layer
from nupes.model.operators import MaxPool

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[PoolWork, ...]:
    """Return a max-pool as work of the max-pool unit."""
    op = cast(MaxPool, layer.op)
    source = context.aligned(layer, layer.inputs[0])
    layout, target = source.layout, context.placement.layouts[layer.output.name]
    walk = window_walk(layer, op, source.shape, layout, whole=True)
    walk = replace(walk, planes=layout.planes, step_plane=wrap(-layout.plane_step))
    y, x = -op.padding[0], -op.padding[2]
    groups = range(layout.groups)
    streams = tuple(MapStream(walk, layout, layout.planes - 1, group, y, x) for group in groups)
    return (PoolWork(layout, streams, target),)
