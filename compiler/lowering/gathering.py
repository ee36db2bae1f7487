"""Which statistics are gathered while a tensor is written, so that nothing is read for them.

The token memory keeps one factor for each pixel of a block: what a layer needs can be left there by
the layer that writes its tensor, if no other one needs factors between the two.
"""

from collections.abc import Sequence
from dataclasses import replace

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.passes import ArrayWork, Statistics, Work
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer

__all__ = ["gather"]


def gather(
    layers: Sequence[Layer], works: Sequence[tuple[Work, ...]], config: ArrayConfig
) -> list[tuple[Work, ...]]:
    """Return the work of all layers, statistics moved to the layers that write what they are of,
    and left out where the same factors are still there."""
    writers = {layer.output.name: index for index, layer in enumerate(layers)}
    made = list(works)
    user, held = -1, None  # the last layer that needed factors, and what they depend on
    for index, layer in enumerate(layers):
        for number, work in enumerate(made[index]):
            if not isinstance(work, ArrayWork) or work.statistics is None:
                continue
            needed, name = work.statistics, layer.inputs[0].tensor
            writer = writers.get(name, -1)
            factors = name, *key(needed)
            left = work.region.pixels <= config.acc_depth and factors == held
            if not left and writer >= max(user, 0) and leaves(made[writer], needed, config):
                (source,) = made[writer]
                made[writer] = (replace(source, gathers=needed),)
                left = True
            if left:
                now = replace(work, statistics=None)
                made[index] = (*made[index][:number], now, *made[index][number + 1 :])
            user, held = index, factors
    return made


def key(item: Statistics) -> tuple[object, ...]:
    """Return what factors depend on but the tensor."""
    table = None if item.table is None else item.table.tobytes()
    numbers = (item.numbers, item.offset, item.channels, item.epsilon)
    return item.statistic, item.layout, *numbers, table


def leaves(works: tuple[Work, ...], needed: Statistics, config: ArrayConfig) -> bool:
    """Whether a layer writes all numbers of every token, column tile by column tile, in one
    block."""
    if len(works) != 1 or not isinstance(works[0], ArrayWork):
        return False
    work, target = works[0], works[0].finish.target
    columns = -(-needed.numbers // config.cols)
    return (
        target is not None
        and target.layout == needed.layout
        and work.region == Region(needed.layout.height, needed.layout.width)
        and work.region.pixels <= config.acc_depth
        and [column.index for column in work.columns] == list(range(columns))
    )
