"""Arithmetic of two tensors that lie in different orders: the second one is brought into the order
of the first one's node, of which the result then is a view like that of the first one."""

from math import prod

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.graph import Node
from nupes.quantizer.frontend.heads import show
from nupes.quantizer.frontend.pieces import find_pieces
from nupes.quantizer.frontend.views import (
    find_mosaic,
    find_selection,
    in_order,
    without_repeats,
)

__all__ = ["align"]


def align(call: Call, whole: fx.Node, other: fx.Node, factor: bool) -> tuple[Node, Node] | None:
    """Return the nodes of an operand of the call's own shape and of one that is broadcast to it,
    both in the order of the former's node, and let the call's value be such a view; ``None`` where
    that is not possible. The other one of a product, a ``factor``, may have sizes of 1."""
    sizes = value_shape(call.node)
    if value_shape(whole) != sizes or len(value_shape(other)) > len(sizes):
        return None
    if not call.gathered(whole):
        return None
    node, second, order = call.viewed(whole), call.viewed(other), call.places(whole)
    height, width, channels = node.shape
    places = np.empty(prod(sizes), np.int32)
    places[order.ravel()] = np.broadcast_to(call.places(other), sizes).ravel()
    grid = places.reshape(channels, height, width)
    once = without_repeats(grid)
    if not in_order(grid, second.shape) or grid.shape[1:] != second.shape[:2]:
        wanted = once if factor else grid
        size = (*wanted.shape[1:], wanted.shape[0])
        if not (in_order(wanted, second.shape) and size == second.shape):
            for find in (find_selection, find_mosaic, find_pieces):
                op = find(wanted, second.shape)
                if op is not None:
                    break
            else:
                return None
            name = call.add(op, (second.name,), op.shape(second.shape), call.kind, "aligned")
            second = call.values.graph.nodes[name]
    show(call, call.node, order, node)
    return node, second
