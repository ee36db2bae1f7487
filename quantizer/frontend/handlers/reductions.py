"""Reductions over dimensions: means, sums and extremes of maps, and softmax of two values."""

from math import prod
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Mosaic, Piece, Select
from nupes.model.operators import Concat as IntegerConcat
from nupes.quantizer.frontend.call import Call, full_shape, is_map, value_shape
from nupes.quantizer.frontend.functions import SIGMOID
from nupes.quantizer.frontend.graph import Affine, Concat, Convolution, Node
from nupes.quantizer.frontend.handlers.pairs import Pair
from nupes.quantizer.frontend.handlers.pointwise import (
    add_function,
    common_root,
    translate_pointwise,
)
from nupes.quantizer.frontend.handlers.pools import add_average_pool, add_max_pool
from nupes.quantizer.frontend.handlers.weighted_rows import softmax_of_pixels
from nupes.quantizer.frontend.heads import show
from nupes.quantizer.frontend.lines import lines_of
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order, own_places, whole_channels

__all__ = ["larger", "largest", "mean", "softmax"]


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
    name = None if axes_of(call, input) else add_pixel_sums(call, input, dim)
    if name is not None:
        return name
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


def add_pixel_sums(call: Call, input: fx.Node, dim: Any) -> str | None:
    """Add the means or sums of all pixels of each channel, over dimensions of a view that are
    these; ``None`` where they are others."""
    source, lists = call.viewed(input), reduced_places(call, input, dim)
    channels = None if lists is None else whole_channels(lists, source.shape, ordered=False)
    if channels is None or channels.shape[1] != 1:
        return None
    height, width, _ = source.shape
    divisor = height * width if call.kind == "mean" else 1
    name = add_average_pool(call, source, AveragePool((height, width), (1, 1)), divisor)
    show(call, call.node, channels.reshape(value_shape(call.node)), call.values.graph.nodes[name])
    return name


def axes_terms(call: Call, input: fx.Node, dim: Any) -> np.ndarray | None:
    """Return which channels each channel of a reduction over dimensions is of, (terms, n), ``None``
    where it is not of whole channels."""
    lists = reduced_places(call, input, dim)
    return None if lists is None else whole_channels(lists.T, call.viewed(input).shape)


def reduced_places(call: Call, input: fx.Node, dim: Any) -> np.ndarray | None:
    """Return the places (n, terms) of the values that each result of a reduction over dimensions is
    of, ``None`` where the batch is one of these, or there are none."""
    places, dims = call.places(input), len(full_shape(input))
    axes = [axis % dims - 1 for axis in dim or ()]
    if not axes or -1 in axes:
        return None
    rest = [axis for axis in range(places.ndim) if axis not in axes]
    terms = prod(places.shape[axis] for axis in axes)
    return places.transpose(*rest, *axes).reshape(-1, terms)


def add_channel_sums(call: Call, source: Node, terms: np.ndarray) -> str:
    """Add the means or sums of channels (terms, n)."""
    (count, channels), (height, width, _) = terms.shape, source.shape
    weight = np.zeros((channels, source.shape[2], 1, 1))
    np.add.at(weight, (np.arange(channels), terms), 1 / count if call.kind == "mean" else 1.0)
    op = Convolution(weight, np.zeros(channels))
    return call.add(op, (source.name,), (height, width, channels), call.kind)


@handles("amax", "amin", "max", "min", ignores=("keepdim",))
def largest(call: Call, input: fx.Node, dim: Any = None, other: Any = None) -> str:
    """Translate the largest or smallest value over height, width or channels, or over any dimension
    of a view that takes channels; or that of two operands."""
    if other is not None:
        return larger(call, input, other)
    dim = [dim] if isinstance(dim, int) else dim
    smallest, source = call.kind in ("amin", "min"), call.viewed(input)
    terms = None if axes_of(call, input) else axes_terms(call, input, dim)
    if terms is None and not axes_of(call, input):
        name = largest_of_windows(call, input, dim, smallest)
        if name is not None:
            return name
    axes = "" if terms is not None else reduced_axes(call, input, dim, "hwc")
    if terms is None:
        source = call.viewed(input)
    name = negative(call, source.name) if smallest else source.name
    if set(axes) & set("hw"):
        window = reduced_window(source, axes)
        name = add_max_pool(call, call.values.graph.nodes[name], MaxPool(window, (1, 1)))
    if "c" in axes:
        terms = np.arange(source.shape[2])[:, None]
    if terms is not None:
        name = add_channel_maxima(call, call.values.graph.nodes[name], terms)
    return negative(call, name) if smallest else name


def largest_of_windows(call: Call, input: fx.Node, dim: Any, smallest: bool) -> str | None:
    """Add the largest or smallest values over dimensions of a view that are windows of a map, side
    by side; ``None`` where they are others."""
    node, lists = call.viewed(input), reduced_places(call, input, dim)
    if lists is None:
        return None
    height, width, _ = node.shape
    channels, pixels = lists // (height * width), lists % (height * width)
    rows, columns = pixels // width, pixels % width
    first, left = rows.min(1), columns.min(1)
    window = int((rows.max(1) - first).max()) + 1, int((columns.max(1) - left).max()) + 1
    numbers = np.sort((rows - first[:, None]) * window[1] + columns - left[:, None], 1)
    alone = (channels == channels[:, :1]).all() and prod(window) == lists.shape[1]
    if not alone or (numbers != np.arange(lists.shape[1])).any():
        return None
    if (
        (first % window[0]).any()
        or (left % window[1]).any()
        or height % window[0]
        or width % window[1]
    ):
        return None
    order, lanes = np.unique(channels[:, 0], return_inverse=True)
    name = node.name
    if not np.array_equal(order, np.arange(node.shape[2])):
        size = height, width, len(order)
        name = call.add(Select.of(order), (name,), size, call.kind, "channels")
    name = negative(call, name) if smallest else name
    name = add_max_pool(call, call.values.graph.nodes[name], MaxPool(window, window))
    name = negative(call, name) if smallest else name
    pooled = call.values.graph.nodes[name]
    found = (lanes * pooled.shape[0] + first // window[0]) * pooled.shape[1] + left // window[1]
    show(call, call.node, found.astype(np.int32).reshape(value_shape(call.node)), pooled)
    return name


@handles("maximum", "minimum")
def larger(call: Call, input: Any, other: Any) -> str:
    """Translate the larger or smaller one of two tensors of one shape, value by value; that of
    functions of one tensor, or with a number, is a function."""
    pair = [value for value in (input, other) if call.is_computed(value)]
    if len(pair) < 2 or common_root(call, pair) or len({value_shape(value) for value in pair}) > 1:
        return translate_pointwise(call)
    smallest = call.kind in ("min", "minimum")
    sources = [call.anywhere(value) for value in pair]
    names = [negative(call, node.name) if smallest else node.name for node in sources]
    shape = IntegerConcat().shape(*(node.shape for node in sources))
    joined = call.add(Concat(), tuple(names), shape, call.kind, "both")
    terms = np.arange(shape[2]).reshape(2, -1)
    name = add_channel_maxima(call, call.values.graph.nodes[joined], terms)
    return negative(call, name) if smallest else name


def add_channel_maxima(call: Call, source: Node, terms: np.ndarray) -> str:
    """Add the maxima of channels (terms, n): of rows, where a mosaic puts them."""
    (count, channels), (height, width, _) = terms.shape, source.shape
    column = (height * count, width, channels)
    pieces = [
        Piece(0, (height, width, some), (row, 0, to), (count, 1, to_step), (0, 0, at), (1, 1, step))
        for row, numbers in enumerate(terms.tolist())
        for some, to, to_step, at, step in lines_of(numbers)
    ]
    name = call.add(Mosaic(column, tuple(pieces)), (source.name,), column, call.kind, "channels")
    op = MaxPool((count, 1), (count, 1))
    return add_max_pool(call, call.values.graph.nodes[name], op)


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
    if pairs is not None and terms is None:
        name = softmax_of_pixels(call, input, axis - 1)
        if name is not None:
            return name
    if pairs is None or terms is None:
        call.refuse(
            "softmax must be of the scores of attention, of two values that are channels, or of "
            f"all pixels, not of a tensor {sizes} over dimension {axis}"
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
    name = add_function(call, SIGMOID, call.values.graph.nodes[name])
    view = np.moveaxis(own_places(pairs.shape), 0, axis - 1)
    if not in_order(view, shape):
        call.views[call.node] = view
    return name
