"""Arguments of windows: a number, or one for height and one for width; and of 1-d windows, which
are 2-d ones along the line that a map of height or width 1 is."""

from typing import Any

from torch import fx

from nupes.model.operators import Padding
from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Node
from nupes.quantizer.frontend.pieces import MOST_PIECES, raster

__all__ = ["Pair", "is_upright", "pair", "plane", "sizes_of", "source_of", "symmetric"]

Pair = tuple[int, int]
"""Numbers for height and width."""


def pair(value: Any) -> Pair:
    """Return an int, or a list of one or two ints, as a pair."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])


def symmetric(padding: Pair) -> Padding:
    """Return (height, width) padding as (top, bottom, left, right)."""
    return padding[0], padding[0], padding[1], padding[1]


def is_upright(call: Call, value: fx.Node) -> bool:
    """Whether a sequence is a map of width 1, as tokens are, not one of height 1."""
    height, width, _ = call.viewed(value).shape
    if height > 1 and width > 1:
        call.refuse(f"it must read a sequence, not the pixels of a map {height} x {width}")
    return height > 1


def source_of(call: Call, value: fx.Node) -> Node:
    """Return the node of what a window moves over; the pixels of a map as a line, if they are a
    sequence, and the map has not too many columns."""
    node = call.source(value)
    if is_map(value) or 1 in node.shape[:2] or node.shape[1] > MOST_PIECES:
        return node
    op = raster(node.shape)
    name = call.add(op, (node.name,), op.size, call.kind, "line")
    call.values.names[value] = name
    return call.values.graph.nodes[name]


def plane(call: Call, value: fx.Node, argument: Any, across: int) -> Pair:
    """Return an argument of a window on a value as a pair; one of a 1-d window is ``across`` in the
    other direction."""
    if is_map(value):
        return pair(argument)
    along = argument if isinstance(argument, int) else int(argument[0])
    return (along, across) if is_upright(call, value) else (across, along)


def sizes_of(call: Call, value: fx.Node) -> Pair:
    """Return the height and width of what a call gives for a value, a map or a sequence."""
    sizes = value_shape(call.node)
    if is_map(value):
        return sizes[1], sizes[2]
    return (sizes[1], 1) if is_upright(call, value) else (1, sizes[1])
