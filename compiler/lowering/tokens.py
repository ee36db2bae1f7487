"""What the statistics unit gathers of the tokens of a tensor, and the passes without sums behind
it."""

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Scaled, Statistic
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.passes import (
    ArrayWork,
    Column,
    MapStream,
    Pass,
    Payload,
    Statistics,
)
from nupes.compiler.lowering.walks import MOST_KERNEL, Walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.packing import pack_words
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer

__all__ = ["statistics", "token_work"]


def statistics(
    layer: Layer, source: Source, statistic: Statistic, config: ArrayConfig, **constants: int
) -> Statistics:
    """Return what is gathered of each token of a tensor; refuse one of too many words, by name."""
    layout, planes = source.layout, source.planes
    if layout.groups > MOST_KERNEL:
        raise UnsupportedError(
            f"layer {layer.name!r}: channels of a token must be at most "
            f"{MOST_KERNEL * config.lanes} on the array, not {source.channels}"
        )
    walk = Walk(
        step_x=1,
        step_y=layout.width,
        width=layout.width,
        height=layout.height,
        stride_x=1,
        stride_y=1,
        out_width=layout.width,
        kernel_h=layout.groups,
        kernel_w=(planes.count + 1) // 2,
        step_kx=-2 * layout.plane_step,
        step_ky=layout.group_step,
        step_plane=-layout.plane_step,
    )
    odd = planes.count % 2
    return Statistics(
        statistic,
        MapStream(walk, layout, planes.count - 1 + odd, 0),
        layout,
        source.channels,
        bool(odd),
        planes.offset,
        planes.tables[0] if planes.count == 1 else None,
        **constants,
    )


def token_work(
    layer: Layer,
    context: Context,
    source: Source,
    gathered: Statistics,
    mult: int,
    scaled: Scaled,
) -> tuple[ArrayWork, ...]:
    """Return the work in which a tensor's numbers, times ``mult``, go through the token stage."""
    assert layer.post is not None
    config, (height, width, channels) = context.config, layer.output.shape
    layout = source.layout
    walk = Walk(
        step_x=1, step_y=layout.width, width=layout.width, height=layout.height, stride_x=1,
        stride_y=1, out_width=width,
    )  # fmt: skip
    nothing = Payload(0, False, lambda: pack_words(np.zeros((0, config.cols), np.uint8), config))
    empty = Pass(MapStream(walk, layout, 0, 0), 0, nothing, None)
    columns = tuple(Column(index, (empty,)) for index in range(-(-channels // config.cols)))
    finish = context.finish_token(layer, layer.post, source, mult, scaled)
    return (ArrayWork(Region(height, width), columns, finish, gathered),)
