"""Reductions over dimensions: means, sums and extremes of maps, and softmax of two values."""

from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Mosaic, Piece
from nupes.quantizer.frontend.call import Call, full_shape, is_map
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.graph import Affine, Convolution, Node
from nupes.quantizer.frontend.handlers.pairs import Pair
from nupes.quantizer.frontend.handlers.pointwise import add_function, translate_pointwise
from nupes.quantizer.frontend.handlers.pools import add_average_pool, add_max_pool
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order, own_places, whole_channels

__all__ = ["largest", "mean", "softmax"]


def axes_of(call: Call, input: fx.Node) -> list[str]:
    """Return which axes of a map each dimension of an operand is, but its batch: height, width or
    both, and channels."""
    pixels = ["h", "w"] if is_map(input) else ["hw"]
    if len(full_shape(input)) in (3, 4):
        if call.is_first(input):
            return ["c", *pixels]
        if call.is_last(input):
            return [*pixels, "c"]
    return []


def reduced_axes(call: Call, input: fx.Node, dim: Any, able: str) -> str:
    """Return the axes of a map that a reduction is over; refuse others, and results without a
    dimension."""
    call.anywhere(input)
    axes, dims = axes_of(call, input), len(full_shape(input))
    found = [] if dim is None else sorted({axis % dims for axis in dim})
    names = dict(enumerate(axes or ["c", "h", "w"], start=1))
    possible = tuple(axis for axis, name in names.items() if set(name) <= set(able))
    if not axes or not found or not set(found) <= set(possible):
        call.refuse(f"{call.kind} must be over dimensions of a map among {possible}, not {dim}")
    if len(full_shape(call.node)) < 2:
        call.refuse(f"{call.kind} over all dimensions of a map must have keepdim=True")
    return "".join(names[axis] for axis in found)


def reduced_window(source: Node, axes: str) -> Pair:
    """Return the window of a reduction over height or width, or both."""
    height, width, _ = source.shape
    return (height if "h" in axes else 1), (width if "w" in axes else 1)


@handles("mean", "sum", ignores=("keepdim",))
def mean(call: Call, input: fx.Node, dim: Any = None) -> str:
    """Translate the mean or the sum over height, width or channels, or over any dimension of a view
    that takes channels; of channels it is a convolution."""
    found = None if axes_of(call, input) else axes_terms(call, input, dim)
    if found is not None:
        return add_channel_sums(call, call.viewed(input), found)
    axes, source = reduced_axes(call, input, dim, "hwc"), call.viewed(input)
    window = reduced_window(source, axes)
    name = source.name
    if axes != "c":
        divisor = window[0] * window[1] if call.kind == "mean" else 1
        name = add_average_pool(call, source, AveragePool(window, (1, 1)), divisor)
    if "c" not in axes:
        return name
    source = call.values.graph.nodes[name]
    return add_channel_sums(call, source, np.arange(source.shape[2])[:, None])


def axes_terms(call: Call, input: fx.Node, dim: Any) -> np.ndarray | None:
    """Return which channels each channel of a reduction over dimensions is of, (terms, n), ``None``
    where it is not of whole channels."""
    dims = len(full_shape(input))
    axes = [axis % dims - 1 for axis in dim or ()]
    if not axes or -1 in axes:
        return None
    places = np.moveaxis(call.places(input), axes, range(len(axes)))
    terms = places.reshape(prod(places.shape[: len(axes)]), -1)
    return whole_channels(terms, call.viewed(input).shape)


def add_channel_sums(call: Call, source: Node, terms: np.ndarray) -> str:
    """Add the means or sums of channels (terms, n)."""
    (count, channels), (height, width, _) = terms.shape, source.shape
    weight = np.zeros((channels, source.shape[2], 1, 1))
    np.add.at(weight, (np.arange(channels), terms), 1 / count if call.kind == "mean" else 1.0)
    op = Convolution(weight, np.zeros(channels))
    return call.add(op, (source.name,), (height, width, channels), call.kind)


@handles("amax", "amin", "max", "min", ignores=("keepdim",))
def largest(call: Call, input: fx.Node, dim: Any = None, other: Any = None) -> str:
    """Translate the largest or smallest value over height, width or channels; that of channels is
    one over rows, where a mosaic puts them. With another operand it is a pointwise function."""
    if other is not None:
        return translate_pointwise(call)
    axes = reduced_axes(call, input, [dim] if isinstance(dim, int) else dim, "hwc")
    source, smallest = call.viewed(input), call.kind in ("amin", "min")
    name = negative(call, source.name) if smallest else source.name
    if axes != "c":
        window = reduced_window(source, axes)
        name = add_max_pool(call, call.values.graph.nodes[name], MaxPool(window, (1, 1)))
    height, width, channels = call.values.graph.nodes[name].shape
    if "c" in axes and channels > 1:
        column = (height * channels, width, 1)
        pieces = tuple(
            Piece(0, (height, width, 1), (n, 0, 0), (channels, 1, 1), (0, 0, n), (1, 1, 1))
            for n in range(channels)
        )
        name = call.add(Mosaic(column, pieces), (name,), column, call.kind, "channels")
        op = MaxPool((channels, 1), (channels, 1))
        name = add_max_pool(call, call.values.graph.nodes[name], op)
    return negative(call, name) if smallest else name


def negative(call: Call, name: str) -> str:
    """Add a map with its sign changed."""
    shape = call.values.graph.nodes[name].shape
    ones = np.ones(shape[2])
    return call.add(Affine(-ones, 0 * ones), (name,), shape, call.kind, "negative")


@handles("softmax", "_softmax", ignores=("dtype", "half_to_float"))
def softmax(call: Call, input: fx.Node, dim: int) -> str:
    """Translate the softmax of two values, which are the sigmoids of their differences."""
    source, sizes, axis = call.viewed(input), full_shape(input), dim % len(full_shape(input))
    pairs = np.moveaxis(call.places(input), axis - 1, 0) if axis else None
    terms = None
    if pairs is not None and len(pairs) == 2:
        terms = whole_channels(pairs.reshape(2, -1), source.shape)
    if pairs is None or terms is None:
        call.refuse(
            "softmax must be of the scores of attention, or of two values that are channels, not "
            f"of a tensor {sizes} over dimension {axis}"
        )
    (height, width, channels), count = source.shape, terms.shape[1]
    weight = np.zeros((2 * count, channels, 1, 1))
    ranks = np.arange(2 * count)
    np.add.at(weight, (ranks, terms.ravel()), 1.0)
    np.add.at(weight, (ranks, terms[::-1].ravel()), -1.0)
    shape = height, width, 2 * count
    name = call.add(
        Convolution(weight, np.zeros(2 * count)), (source.name,), shape, "softmax", "differences"
    )
    sigmoid = Function("sigmoid", torch.sigmoid, 0.0, 1.0)
    name = add_function(call, sigmoid, call.values.graph.nodes[name])
    view = np.moveaxis(own_places(pairs.shape), 0, axis - 1)
    if not in_order(view, shape):
        call.views[call.node] = view
    return name
