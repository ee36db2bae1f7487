"""Padding of the map, with zeros or its own values, or of channels on both sides; and crops."""

from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, is_map
from nupes.quantizer.frontend.graph import Pad
from nupes.quantizer.frontend.handlers.copies import add_mosaic, copy_values
from nupes.quantizer.frontend.registry import handles

__all__ = ["pad"]


@handles("pad", "constant_pad_nd")
def pad(call: Call, input: fx.Node, pad: list[Any], value: Any, mode: str = "constant") -> str:
    """Translate padding to a node that the operator behind it takes in, a selection, or a copy."""
    source = call.source(input)
    amounts = [int(amount) for amount in pad]
    if not any(amounts):
        return source.name
    if mode != "constant":
        return copy_values(call, input)
    if (max(amounts) > 0 and (value or 0) != 0) or not is_map(input):
        call.refuse("padding must be of a feature map with the constant 0")
    left, right, top, bottom, front, back, *batch = amounts + [0] * (8 - len(amounts))
    if any(batch):
        call.refuse("the batch dimension cannot be padded")
    if min(amounts) < 0:
        sides = ((top, bottom), (left, right), (front, back))
        source = call.values.graph.nodes[crop(call, input, sides)]
        left, right, top, bottom, front, back = (
            max(amount, 0) for amount in (left, right, top, bottom, front, back)
        )
    height, width, channels = source.shape
    name = source.name
    if front or back:
        channels += front + back
        name = call.add(Select(channels, front), (name,), (height, width, channels), "pad")
    if top or bottom or left or right:
        shape = (height + top + bottom, width + left + right, channels)
        name = call.add(Pad((top, bottom, left, right)), (name,), shape, "pad")
    return name


def crop(call: Call, input: fx.Node, sides: tuple[tuple[int, int], ...]) -> str:
    """Add what negative padding, (before, after) of rows, columns and channels, leaves."""
    source = call.source(input)
    origins = [
        np.arange(max(-before, 0), size - max(-after, 0))
        for size, (before, after) in zip(source.shape, sides, strict=True)
    ]
    if not all(map(len, origins)):
        call.refuse("padding must leave rows, columns and channels")
    return add_mosaic(call, source, origins)
