"""Norms over the pixels of a map: the mean and the mean square of groups of channels are values of
their own, pooled from the map, and the reciprocal root of the latter is a factor of the map."""

from typing import Any

import numpy as np
import torch
from torch import fx

from nupes.model.operators import AveragePool, Select
from nupes.quantizer.frontend.call import Call
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Add, Affine, Convolution, Node, Product
from nupes.quantizer.frontend.handlers.norms import batch_norm
from nupes.quantizer.frontend.handlers.pointwise import add_function
from nupes.quantizer.frontend.handlers.pools import add_average_pool
from nupes.quantizer.frontend.heads import show
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import cross, whole_channels

__all__ = ["group_norm", "instance_norm", "unit_pixels"]

SQUARE = Function("square", torch.square, 0.0)


@handles("group_norm", ignores=("cudnn_enabled",))
def group_norm(
    call: Call,
    input: fx.Node,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> str:
    """Translate a norm of each group of channels, over all their pixels."""
    if eps <= 0:
        call.refuse(f"eps of a norm must be positive, not {eps}")
    source = call.source(input)
    channels = source.shape[2]
    means = add_means(call, source, num_groups, -1.0, "mean")
    height, width, _ = source.shape
    every = cross(np.arange(channels), np.zeros(height, int), np.zeros(width, int))
    spread = call.add(every, (means.name,), every.size, "norm", "means")
    nodes = call.values.graph.nodes
    centred = nodes[call.add(Add(), (source.name, spread), source.shape, "norm", "centred")]
    squares = nodes[call.add(SQUARE, (centred.name,), source.shape, "norm", "squares")]
    spreads = add_means(call, squares, num_groups, 1.0, "variance")
    factor = add_function(call, reciprocal_root(eps), spreads)
    name = call.add(Product(), (factor, centred.name), source.shape, "norm", "normed")
    gain = call.vector(weight, 1.0, channels, "weight")
    offset = call.vector(bias, 0.0, channels, "bias")
    if (gain == 1).all() and not offset.any():
        return name
    return call.add(Affine(gain, offset), (name,), source.shape, "norm", "affine")


@handles("instance_norm", ignores=("momentum", "cudnn_enabled"))
def instance_norm(
    call: Call,
    input: fx.Node,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
) -> str:
    """Translate a norm of each channel, over all its pixels, or a batch norm under that name."""
    if not use_input_stats:
        return batch_norm(call, input, weight, bias, running_mean, running_var, eps)
    return group_norm(call, input, call.source(input).shape[2], weight, bias, eps)


def unit_pixels(call: Call, input: fx.Node, axis: int, eps: float) -> str:
    """Translate rows of length 1 along a dimension that is all pixels of a channel each."""
    node, places = call.viewed(input), np.moveaxis(call.places(input), axis, -1)
    channels = whole_channels(places.reshape(-1, places.shape[-1]), node.shape, ordered=False)
    if channels is None or channels.shape[1] != 1:
        call.refuse(
            "rows of length 1 must be channels of a pixel, or all pixels of a channel, not others"
        )
    order = np.unique(channels)
    source, (height, width, _) = node, node.shape
    if not np.array_equal(order, np.arange(node.shape[2])):
        size = height, width, len(order)
        name = call.add(Select.of(order), (node.name,), size, "norm", "channels")
        source = call.values.graph.nodes[name]
    squares = call.add(SQUARE, (source.name,), source.shape, "norm", "squares")
    window = AveragePool((height, width), (1, 1))
    total = add_average_pool(call, call.values.graph.nodes[squares], window, 1, "total")
    factor = add_function(call, reciprocal_root(eps**2), call.values.graph.nodes[total])
    name = call.add(Product(), (factor, source.name), source.shape, "norm", "normed")
    every, pixels = call.places(input), height * width
    lanes = np.searchsorted(order, every // pixels)
    show(call, call.node, (lanes * pixels + every % pixels).astype(np.int32), source)
    return name


def add_means(call: Call, source: Node, groups: int, factor: float, part: str) -> Node:
    """Add a map of one pixel: each channel's value is a factor times the mean of its group."""
    height, width, channels = source.shape
    graph, count = call.values.graph, channels // groups
    window = AveragePool((height, width), (1, 1))
    pooled = add_average_pool(call, source, window, height * width, f"{part}_pooled")
    shape = 1, 1, channels
    if count == 1:
        if factor == 1:
            return graph.nodes[pooled]
        scaled = Affine(np.full(channels, factor), np.zeros(channels))
        return graph.nodes[call.add(scaled, (pooled,), shape, "norm", part)]
    weight = np.full((channels, count, 1, 1), factor / count)
    op = Convolution(weight, np.zeros(channels), groups=groups)
    return graph.nodes[call.add(op, (pooled,), shape, "norm", part)]


def reciprocal_root(eps: float) -> Function:
    """Return the factor by which a norm multiplies, of a variance, which is not negative."""
    return Function(f"rsqrt(x + {eps!r})", lambda x: torch.rsqrt(x.clamp(min=0) + eps), 0.0)
