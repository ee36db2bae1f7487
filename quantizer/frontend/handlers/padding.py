"""Padding of the map, with zeros, its own values or what a max-pool skips, or of channels; negative
padding crops."""

import math
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Padding, Select
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Pad
from nupes.quantizer.frontend.handlers.pairs import is_upright
from nupes.quantizer.frontend.handlers.views import translate_view
from nupes.quantizer.frontend.registry import base_name, handles

__all__ = ["pad"]

MAXIMA = {"max_pool1d", "max_pool2d", "max_pool2d_with_indices"}
"""Operators that skip padding with what is below all values."""


@handles("pad", "constant_pad_nd")
def pad(call: Call, input: fx.Node, pad: list[Any], value: Any, mode: str = "constant") -> str:
    """Translate padding to a view where it repeats values of the map, to a selection where it crops
    or pads channels, and to a node that the operator behind it takes in; with ``-inf`` that must be
    a max-pool."""
    if mode != "constant":
        return translate_view(call)
    source = call.source(input)
    amounts = [int(amount) for amount in pad]
    if not any(amounts):
        return source.name
    if len(full_shape(input)) == 3:
        start, end, *others = amounts
        amounts = [0, 0, start, end] if is_upright(call, input) else [start, end, 0, 0]
        amounts += others
    readers = {base_name(user) for user in call.node.users}
    lowest = value == -math.inf and readers <= MAXIMA and max(amounts[4:], default=0) <= 0
    if (max(amounts) > 0 and (value or 0) != 0 and not lowest) or len(full_shape(input)) == 2:
        call.refuse(
            "padding must be of a feature map with the constant 0, or -inf where max-pools read it"
        )
    left, right, top, bottom, front, back, *batch = amounts + [0] * (8 - len(amounts))
    if any(batch):
        call.refuse("the batch dimension cannot be padded")
    sides = (top, bottom), (left, right), (front, back)
    axes = zip(source.shape, sides, strict=True)
    if any(size + min(before, 0) + min(after, 0) < 1 for size, (before, after) in axes):
        call.refuse("padding must leave rows, columns and channels")
    channels = np.arange(-front, source.shape[2] + back)
    channels[(channels < 0) | (channels >= source.shape[2])] = -1
    crop, more = split_signs(top, bottom, left, right)
    op = Select(tuple(channels.tolist()), padding=crop)
    name, shape = source.name, op.shape(source.shape)
    if op != Select.every(source.shape[2]):
        name = call.add(op, (name,), shape, "pad")
    if any(more):
        shape = shape[0] + more[0] + more[1], shape[1] + more[2] + more[3], shape[2]
        name = call.add(Pad(more, lowest), (name,), shape, "pad")
    return name


def split_signs(top: int, bottom: int, left: int, right: int) -> tuple[Padding, Padding]:
    """Return padding that crops, and padding that adds, which together are the given one."""
    return (
        (min(top, 0), min(bottom, 0), min(left, 0), min(right, 0)),
        (max(top, 0), max(bottom, 0), max(left, 0), max(right, 0)),
    )
