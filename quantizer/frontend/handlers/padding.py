"""Padding of the map, with a number, its own values or what a max-pool skips, or of channels;
negative padding crops."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Padding, Select
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Add, Pad, Shape
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
    last = call.is_last(input) and not call.is_first(input)
    amounts = [int(amount) for amount in pad]
    if not any(amounts):
        return call.view(input, call.places(input))
    source = call.anywhere(input) if last else call.source(input)
    if last:  # channels, (columns,) rows, batch
        dims = len(full_shape(input))
        front, back, *amounts = amounts + [0] * (2 * dims - len(amounts))
        amounts = [0, 0] * (dims == 3) + amounts
        amounts = [*amounts[:4], front, back, *amounts[4:]]
    elif len(full_shape(input)) == 3:
        start, end, *others = amounts
        amounts = [0, 0, start, end] if is_upright(call, input) else [start, end, 0, 0]
        amounts += others
    if len(full_shape(input)) == 2:
        call.refuse("padding must be of a feature map, not of a vector")
    readers = {base_name(user) for user in call.node.users}
    lowest = value == -math.inf and readers <= MAXIMA and max(amounts[4:], default=0) <= 0
    if not math.isfinite(value or 0) and not lowest:
        call.refuse(
            f"padding must be with a finite number, or -inf where max-pools read it, not {value}"
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
    if not value or lowest or max(amounts) <= 0:
        return name
    border = call.hold(value * outside(shape, sides))
    return call.add(Add(), (name, border), shape, "pad", "border")


def outside(shape: Shape, sides: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return 1 for the values (h, w, c) of a map that padding has added, 0 for others."""
    found = np.ones(shape)
    ends = (
        slice(max(before, 0), size - max(after, 0))
        for size, (before, after) in zip(shape, sides, strict=True)
    )
    found[tuple(ends)] = 0.0
    return found


def split_signs(top: int, bottom: int, left: int, right: int) -> tuple[Padding, Padding]:
    """Return padding that crops, and padding that adds, which together are the given one."""
    return (
        (min(top, 0), min(bottom, 0), min(left, 0), min(right, 0)),
        (max(top, 0), max(bottom, 0), max(left, 0), max(right, 0)),
    )
