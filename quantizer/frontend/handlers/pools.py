"""Pools: maxima and means over windows. Where the size or the divisor of the windows varies, each
rectangle of results whose windows are alike is a pool of its own, and a mosaic joins them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Mosaic, Padding, Piece
from nupes.quantizer.frontend.call import Call, full_shape, is_map
from nupes.quantizer.frontend.graph import Affine, Convolution, Node, Pad, Pool
from nupes.quantizer.frontend.handlers.pairs import Pair, plane, sizes_of
from nupes.quantizer.frontend.handlers.pointwise import translate_pointwise
from nupes.quantizer.frontend.handlers.spans import (
    Run,
    Span,
    adaptive_spans,
    runs_of,
    window_spans,
)
from nupes.quantizer.frontend.registry import handles

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "max_pool", "mean"]

Rectangle = tuple[Run, Run]
"""Windows that are alike: runs of rows and of columns."""


def window_padding(
    counts: Pair, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Padding:
    """Return the padding with which so many windows fit: with ``ceil_mode`` it may be larger at the
    bottom and right."""
    sides = []
    for axis, count in enumerate(counts):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        needed = (count - 1) * stride[axis] + extent - size[axis] - padding[axis]
        sides += [padding[axis], max(padding[axis], needed)]
    return sides[0], sides[1], sides[2], sides[3]


def one_stride(shape: tuple[int, ...], stride: Pair) -> Pair:
    """Return a window's stride; along an axis with a single window there is none."""
    return (1 if shape[0] == 1 else stride[0]), (1 if shape[1] == 1 else stride[1])


@handles("max_pool1d", "max_pool2d", "max_pool2d_with_indices", ignores=("ceil_mode",))
def max_pool(
    call: Call, input: fx.Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> str:
    """Translate ``max_pool1d`` and ``max_pool2d``; windows beyond the map are padding."""
    source = call.source(input)
    kernel, spread = plane(call, input, kernel_size, 1), plane(call, input, dilation, 1)
    step, before = plane(call, input, stride or kernel_size, 1), plane(call, input, padding, 0)
    counts = sizes_of(call, input)
    sides = window_padding(counts, source.shape[:2], kernel, step, before, spread)
    if isinstance(source.op, Pad) and source.op.lowest:
        top, bottom, left, right = map(sum, zip(sides, source.op.padding, strict=True))
        sides = top, bottom, left, right
        source = call.values.graph.nodes[source.inputs[0]]
    return add_max_pool(call, source, MaxPool(kernel, step, sides, spread))


@handles("avg_pool1d", "avg_pool2d", ignores=("ceil_mode",))
def average_pool(
    call: Call,
    input: fx.Node,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> str:
    """Translate ``avg_pool1d`` and ``avg_pool2d``."""
    source = call.source(input)
    size, counts = source.shape[:2], sizes_of(call, input)
    kernel, before = plane(call, input, kernel_size, 1), plane(call, input, padding, 0)
    step = plane(call, input, stride or kernel_size, 1)
    spans = [
        window_spans(*axis, bool(count_include_pad))
        for axis in zip(size, counts, kernel, step, before, strict=True)
    ]
    divisors = {y.divisor * x.divisor for y in spans[0] for x in spans[1]}
    if divisor_override is not None:
        if divisor_override < 0:
            call.refuse(f"divisor_override must be positive, not {divisor_override}")
        divisors = {divisor_override}
    if len(divisors) == 1:
        sides = window_padding(counts, size, kernel, step, before, (1, 1))
        return add_average_pool(call, source, AveragePool(kernel, step, sides), divisors.pop())
    return add_rectangles(call, source, spans, average_of)


def add_max_pool(call: Call, source: Node, op: MaxPool, part: str = "") -> str:
    """Add a max-pool."""
    shape = op.shape(source.shape)
    op = MaxPool(op.kernel, one_stride(shape, op.stride), op.padding, op.dilation)
    return call.add(op, (source.name,), shape, "max_pool2d", part)


def add_average_pool(
    call: Call, source: Node, op: AveragePool, divisor: int, part: str = ""
) -> str:
    """Add an average pool."""
    shape = op.shape(source.shape)
    op = AveragePool(op.kernel, one_stride(shape, op.stride), op.padding)
    return call.add(Pool(op, 1.0 / divisor), (source.name,), shape, "avg_pool2d", part)


def average_of(call: Call, source: Node, runs: Rectangle, part: str) -> str:
    """Add the averages of a rectangle of windows."""
    divisor = runs[0].span.divisor * runs[1].span.divisor
    return add_average_pool(call, source, AveragePool(*window_of(source, runs)), divisor, part)


def maximum_of(call: Call, source: Node, runs: Rectangle, part: str) -> str:
    """Add the maxima of a rectangle of windows."""
    return add_max_pool(call, source, MaxPool(*window_of(source, runs)), part)


def window_of(source: Node, runs: Rectangle) -> tuple[Pair, Pair, Padding]:
    """Return kernel, stride and padding with which a pool has a rectangle of windows."""
    rows, columns = runs
    height, width, _ = source.shape
    sides = (*rows.padding(height), *columns.padding(width))
    return (rows.span.size, columns.span.size), (rows.step, columns.step), sides


def add_rectangles(
    call: Call,
    source: Node,
    spans: list[list[Span]],
    add: Callable[[Call, Node, Rectangle, str], str],
) -> str:
    """Add a pool for each rectangle of windows that are alike, and their mosaic."""
    rows, columns = map(runs_of, spans)
    if len(rows) == len(columns) == 1:
        return add(call, source, (rows[0], columns[0]), "")
    parts, pieces, channels = [], [], source.shape[2]
    for y in rows:
        for x in columns:
            count, to = (y.count, x.count, channels), (y.first, x.first, 0)
            pieces.append(Piece(len(parts), count, to, (1, 1, 1), (0, 0, 0), (1, 1, 1)))
            parts.append(add(call, source, (y, x), f"part{len(parts)}"))
    shape = (len(spans[0]), len(spans[1]), channels)
    return call.add(Mosaic(shape, tuple(pieces)), tuple(parts), shape, call.kind.lstrip("_"))


def output_spans(call: Call, input: fx.Node) -> list[list[Span]]:
    """Return the windows of an adaptive pool to the size that a call gives."""
    sizes = zip(call.source(input).shape, sizes_of(call, input), strict=False)
    return [adaptive_spans(size, count) for size, count in sizes]


@handles(
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"),
    ignores=("output_size",),
)
def adaptive_average_pool(call: Call, input: fx.Node) -> str:
    """Translate adaptive average pools."""
    return add_rectangles(call, call.source(input), output_spans(call, input), average_of)


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", ignores=("output_size",))
def adaptive_max_pool(call: Call, input: fx.Node) -> str:
    """Translate adaptive max-pools."""
    return add_rectangles(call, call.source(input), output_spans(call, input), maximum_of)


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


@handles("mean", ignores=("keepdim",))
def mean(call: Call, input: fx.Node, dim: Any = None) -> str:
    """Translate the mean over height, width or channels; that of channels is a convolution."""
    axes, source = reduced_axes(call, input, dim, "hwc"), call.viewed(input)
    window = reduced_window(source, axes)
    name = source.name
    if axes != "c":
        divisor = window[0] * window[1]
        name = add_average_pool(call, source, AveragePool(window, (1, 1)), divisor)
    if "c" not in axes:
        return name
    height, width, channels = call.values.graph.nodes[name].shape
    op = Convolution(np.full((1, channels, 1, 1), 1 / channels), np.zeros(1))
    return call.add(op, (name,), (height, width, 1), "mean")


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
