"""Means weighted by softmax of numbers, and softmax over all pixels of each channel."""

import numpy as np
from torch import fx

from nupes.model.operators import Matmul, Select, SubtractMax, WeightedMean
from nupes.quantizer.frontend.call import Call
from nupes.quantizer.frontend.graph import Node
from nupes.quantizer.frontend.handlers.attention import (
    EXPONENTIAL,
    mean_of,
    part_of,
    weigh_channels,
)
from nupes.quantizer.frontend.heads import show
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import whole_channels
from nupes.quantizer.frontend.windows import heads_of, join_heads, take, turn, whole_heads

__all__ = ["softmax_of_pixels", "weigh_rows"]


@handles("weighted_rows")
def weigh_rows(call: Call, input: fx.Node, value: fx.Node) -> str:
    """Translate means of values (..., n, d), weighted by softmax of numbers (..., t, n)."""
    (rows, some), (columns, others) = heads_of(call, input), heads_of(call, value)
    if len(some) != len(others):
        call.refuse("both matrices of a product must have one number of heads")
    made, nodes = [], call.values.graph.nodes
    for number, (first, second) in enumerate(zip(some, others, strict=True)):
        numbers = nodes[take(call, rows, first, f"x_{number}")]
        values = nodes[take(call, columns, second, f"v_{number}")]
        if first.turned:
            numbers = turn(call, numbers, f"turned_{number}")
        weights = numerators(call, numbers, f"_{number}")
        mean = weigh_channels if second.turned else mean_of
        made.append(mean(call, weights, values, number))
    if others[0].turned:  # what is made of values lies where they do
        return join_heads(call, columns, others, made)
    if some[0].turned:
        node = nodes[made[0]]
        return join_heads(call, node, whole_heads(node, len(made)), made)
    return join_heads(call, rows, some, made)


def numerators(call: Call, node: Node, part: str) -> Node:
    """Add softmax's numerators of all channels of each pixel."""
    distances = part_of(call, SubtractMax(), (node,), node.shape, f"distances{part}")
    return part_of(call, EXPONENTIAL, (distances,), node.shape, f"weights{part}")


def softmax_of_pixels(call: Call, input: fx.Node, axis: int) -> str | None:
    """Add softmax over all pixels of each channel, which a dimension of the operand is; ``None``
    where it is something else."""
    node, places = call.viewed(input), np.moveaxis(call.places(input), axis, -1)
    height, width, _ = node.shape
    pixels = height * width
    channels = whole_channels(places.reshape(-1, places.shape[-1]), node.shape, ordered=False)
    if pixels == 1 or channels is None or channels.shape[1] != 1:
        return None
    order, lanes = np.unique(channels[:, 0], return_inverse=True)
    nodes = call.values.graph.nodes
    if not np.array_equal(order, np.arange(node.shape[2])):
        size = height, width, len(order)
        node = nodes[call.add(Select.of(order), (node.name,), size, "softmax", "channels")]
    weights = numerators(call, turn(call, node, "turned"), "")
    ones = nodes[call.hold(np.eye(pixels).reshape(pixels, 1, pixels))]
    shares = part_of(call, WeightedMean(pixels), (weights, ones), weights.shape, "shares")
    own = call.hold(np.eye(pixels).reshape(height, width, pixels))
    size = height, width, len(order)
    back = part_of(call, Matmul(pixels, True), (nodes[own], shares), size, "softmax")
    lane = lanes.reshape(places.shape[:-1])[..., None]
    found = lane * pixels + places % pixels
    show(call, call.node, np.moveaxis(found, -1, axis).astype(np.int32), back)
    return back.name
