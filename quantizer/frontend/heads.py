"""Channels of tokens in several dimensions, such as heads: arithmetic on them is arithmetic on the
tokens, whose channels stand in another shape.

A value (heads, t, d) or (t, heads, d) of a sequence of t tokens is a view of the map (t, 1, heads *
d). As a map of its own it would have the heads as channels.
"""

from collections.abc import Sequence

import numpy as np
from torch import fx

from nupes.model.operators import Concat as IntegerConcat
from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.graph import Affine, Concat, Node
from nupes.quantizer.frontend.multiples import Multiples, origin
from nupes.quantizer.frontend.pieces import MOST_PIECES, find_pieces, raster
from nupes.quantizer.frontend.views import in_order, own_places

__all__ = ["by_tokens", "join_by_tokens", "show"]


Axes = tuple[int, np.ndarray]
"""The dimension of the tokens, and the channel that each place of the others is."""


def by_tokens(call: Call, values: Sequence[fx.Node]) -> list[Node] | None:
    """Return the nodes of operands of the call's own shape, all views of tokens in the order of
    their channels, or of all numbers of a map in one order, as the call's value then is; ``None``
    where they are no such views."""
    sizes = value_shape(call.node)
    arranged = call.arranged(values)
    if arranged is not None:
        return arranged
    if any(value_shape(value) != sizes for value in values):
        return None
    nodes = in_one_order(call, values)
    if nodes is not None:
        show(call, call.node, call.places(values[0]), nodes[0])
    return nodes


def join_by_tokens(call: Call, values: Sequence[fx.Node], axis: int, new: bool) -> str | None:
    """Add the concatenation of views of tokens along a dimension that is not the tokens', or a
    ``new`` one, of all values' channels one after another; ``None`` for other values."""
    if not all(map(call.is_computed, values)):
        return None
    axes = axes_of(call, values[0])
    if axes is None or (axes[0] == axis and not new):
        return None
    nodes = in_one_order(call, values)
    if nodes is None:
        return None
    starts = np.cumsum([0, *(node.shape[0] * node.shape[1] * node.shape[2] for node in nodes)])
    parts = [call.places(value) + start for value, start in zip(values, starts, strict=False)]
    places = np.stack(parts, axis) if new else np.concatenate(parts, axis)
    shape = IntegerConcat().shape(*(node.shape for node in nodes))
    name = call.add(Concat(), tuple(node.name for node in nodes), shape, call.kind)
    show(call, call.node, places.astype(np.int32), call.values.graph.nodes[name])
    return name


def axes_of(call: Call, value: fx.Node) -> Axes | None:
    """Return how an operand is a view of tokens in three dimensions or more, ``None`` where it is
    something else, such as a node in its own order."""
    places = call.views.get(value)
    height, width, _ = call.viewed(value).shape
    pixels = height * width
    if places is None or isinstance(places, list) or pixels == 1 or places.ndim < 3:
        return None
    for axis, size in enumerate(places.shape[:-1]):
        rows = np.moveaxis(places, axis, -1)
        channels = rows[..., 0] // pixels
        if size == pixels and (rows == grid(channels, pixels)).all():
            return axis, channels
    return None


def grid(channels: np.ndarray, pixels: int) -> np.ndarray:
    """Return the places (..., pixels) of whole channels (...)."""
    return channels[..., None] * pixels + np.arange(pixels)


def in_one_order(call: Call, values: Sequence[fx.Node]) -> list[Node] | None:
    """Return the nodes of views of tokens, each with the channels in the order of the view."""
    found = []
    for value in values:
        axes = axes_of(call, value)
        if axes is None or axes[0] != (found or [axes])[0][0]:
            return None
        found.append(axes)
    for value, (axis, channels) in zip(values, found, strict=True):
        node, order = call.viewed(value), channels.ravel()
        if np.array_equal(order, np.arange(node.shape[2])):
            continue
        taken = take(call, origin(call.values.graph.nodes, node).of(order))
        call.values.names[value] = taken.name
        pixels = node.shape[0] * node.shape[1]
        every = grid(np.arange(len(order)).reshape(channels.shape), pixels)
        places = np.moveaxis(every, -1, axis).astype(np.int32)
        show(call, value, places, taken)
    return in_one_shape(call, values)


def in_one_shape(call: Call, values: Sequence[fx.Node]) -> list[Node] | None:
    """Return the nodes of views that have as many pixels, with the rows and columns of the first
    one; pixels that lie in others are moved."""
    first = call.viewed(values[0])
    for value in values[1:]:
        node = call.viewed(value)
        if node.shape[:2] == first.shape[:2]:
            continue
        if first.shape[1] == 1 and node.shape[1] <= MOST_PIECES:
            op = raster(node.shape)
        else:
            op = find_pieces(own_places((node.shape[2], *first.shape[:2])), node.shape)
        if op is None:
            return None
        call.values.names[value] = call.add(op, (node.name,), op.size, call.kind, "rows")
    return [call.viewed(value) for value in values]


def take(call: Call, wanted: Multiples) -> Node:
    """Return the node of multiples of channels, which is added."""
    source, graph = wanted.source, call.values.graph
    size = (*source.shape[:2], len(wanted.channels))
    op = Select.of(wanted.channels)
    name = call.add(op, (source.name,), size, call.kind, "channels")
    if (wanted.factors != 1).any():
        scaled = Affine(wanted.factors, np.zeros_like(wanted.factors))
        name = call.add(scaled, (name,), size, call.kind, "factors")
    return graph.nodes[name]


def show(call: Call, value: fx.Node, places: np.ndarray, node: Node) -> None:
    """Let a value be a view of a node that is as large."""
    if in_order(places, node.shape):
        call.views.pop(value, None)
    else:
        call.views[value] = places
