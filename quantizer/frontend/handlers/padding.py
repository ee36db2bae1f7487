"""Constant padding with zeros: of the map, or of channels on both sides."""

from typing import Any

from torch import fx

from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Pad
from nupes.quantizer.frontend.handlers.pairs import is_upright
from nupes.quantizer.frontend.registry import handles

__all__ = ["zero_pad"]


@handles("pad", "constant_pad_nd")
def zero_pad(call: Call, input: fx.Node, pad: list[Any], value: Any, mode: str = "constant") -> str:
    """Translate padding to a node that the operator behind it takes in, or a selection."""
    source = call.source(input)
    amounts = [int(amount) for amount in pad]
    if not any(amounts):
        return source.name
    if len(full_shape(input)) == 3:
        start, end, *others = amounts
        amounts = [0, 0, start, end] if is_upright(call, input) else [start, end, 0, 0]
        amounts += others
    if mode != "constant" or (value or 0) != 0 or len(full_shape(input)) == 2:
        call.refuse("padding must be of a feature map with the constant 0")
    if min(amounts) < 0:
        call.refuse(f"padding must not be negative, not {amounts}")
    left, right, top, bottom, front, back, *batch = amounts + [0] * (8 - len(amounts))
    if any(batch):
        call.refuse("the batch dimension cannot be padded")
    height, width, channels = source.shape
    name = source.name
    if front or back:
        channels += front + back
        name = call.add(Select(channels, front), (name,), (height, width, channels), "pad")
    if top or bottom or left or right:
        shape = (height + top + bottom, width + left + right, channels)
        name = call.add(Pad((top, bottom, left, right)), (name,), shape, "pad")
    return name
