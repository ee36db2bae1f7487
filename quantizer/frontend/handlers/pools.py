"""Pools: maxima and means over windows. Where the size or the divisor of the windows varies, each
rectangle of results whose windows are alike is a pool of its own, and a mosaic joins them."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Mosaic, Padding, Piece
from nupes.quantizer.frontend.call import Call, full_shape, is_map, value_shape
from nupes.quantizer.frontend.graph import Convolution, Node, Pool
from nupes.quantizer.frontend.handlers.pairs import pair
from nupes.quantizer.frontend.handlers.spans import (
    Run,
    Span,
    adaptive_spans,
    runs_of,
    window_spans,
)
from nupes.quantizer.frontend.registry import handles

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "max_pool", "mean"]

Pair = tuple[int, int]

Rectangle = tuple[Run, Run]
"""Windows that are alike: runs of rows and of columns."""


def window_padding(
    call: Call, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Padding:
    """Return the padding with which windows reach what a call gives: with ``ceil_mode`` it may be
    larger at the bottom and right."""
    sides = []
    for axis, count in enumerate(value_shape(call.node)[-2:]):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        needed = (count - 1) * stride[axis] + extent - size[axis] - padding[axis]
        sides += [padding[axis], max(padding[axis], needed)]
    return sides[0], sides[1], sides[2], sides[3]


def one_stride(shape: tuple[int, ...], stride: Pair) -> Pair:
    """Return a window's stride; along an axis with a single window there is none."""
    return (1 if shape[0] == 1 else stride[0]), (1 if shape[1] == 1 else stride[1])


@handles("max_pool2d", "max_pool2d_with_indices", ignores=("ceil_mode",))
def max_pool(
    call: Call, input: fx.Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> str:
    """Translate ``max_pool2d``; windows beyond the map are padding."""
    source = call.source(input)
    kernel, spread = pair(kernel_size), pair(dilation)
    step = pair(stride or kernel)
    sides = window_padding(call, source.shape[:2], kernel, step, pair(padding), spread)
    return add_max_pool(call, source, MaxPool(kernel, step, sides, spread))


@handles("avg_pool2d", ignores=("ceil_mode",))
def average_pool(
    call: Call,
    input: fx.Node,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    count_include_pad: bool,
    divisor_override: int | None,
) -> str:
    """Translate ``avg_pool2d``."""
    source = call.source(input)
    size, kernel, before = source.shape[:2], pair(kernel_size), pair(padding)
    step, counts = pair(stride or kernel), value_shape(call.node)[-2:]
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
        sides = window_padding(call, size, kernel, step, before, (1, 1))
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


def output_spans(source: Node, sizes: Any) -> list[list[Span]]:
    """Return the windows of an adaptive pool to some size."""
    asked = [sizes] * 2 if isinstance(sizes, int) else list(sizes)
    return [
        adaptive_spans(size, size if wanted is None else int(wanted))
        for size, wanted in zip(source.shape[:2], asked, strict=True)
    ]


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_average_pool(call: Call, input: fx.Node, output_size: Any) -> str:
    """Translate ``adaptive_avg_pool2d``."""
    source = call.source(input)
    return add_rectangles(call, source, output_spans(source, output_size), average_of)


@handles("adaptive_max_pool2d")
def adaptive_max_pool(call: Call, input: fx.Node, output_size: Any) -> str:
    """Translate ``adaptive_max_pool2d``."""
    source = call.source(input)
    return add_rectangles(call, source, output_spans(source, output_size), maximum_of)


def reduced_axes(call: Call, input: fx.Node, dim: Any, able: Collection[int]) -> list[int]:
    """Return the dimensions of a map that a reduction is over; refuse others, and results that are
    neither maps nor vectors."""
    axes = [] if dim is None else sorted({axis % 4 for axis in dim})
    if not is_map(input) or not axes or not set(axes) <= set(able):
        call.refuse(f"{call.kind} must be over dimensions of a map among {tuple(able)}, not {dim}")
    if len(full_shape(call.node)) not in (2, 4):
        call.refuse(f"{call.kind} over some dimensions of a map must have keepdim=True")
    return axes


def reduced_window(source: Node, axes: list[int]) -> Pair:
    """Return the window of a reduction over height or width, or both."""
    height, width, _ = source.shape
    return (height if 2 in axes else 1), (width if 3 in axes else 1)


@handles("mean", ignores=("keepdim",))
def mean(call: Call, input: fx.Node, dim: Any = None) -> str:
    """Translate the mean over height, width or channels; that of channels is a convolution."""
    axes, source = reduced_axes(call, input, dim, (1, 2, 3)), call.source(input)
    window = reduced_window(source, axes)
    name = source.name
    if axes != [1]:
        divisor = window[0] * window[1]
        name = add_average_pool(call, source, AveragePool(window, (1, 1)), divisor)
    if 1 not in axes:
        return name
    height, width, channels = call.values.graph.nodes[name].shape
    op = Convolution(np.full((1, channels, 1, 1), 1 / channels), np.zeros(1))
    return call.add(op, (name,), (height, width, 1), "mean")


@handles("amax", ignores=("keepdim",))
def largest(call: Call, input: fx.Node, dim: Any) -> str:
    """Translate the maximum over height or width, or both."""
    axes, source = reduced_axes(call, input, dim, (2, 3)), call.source(input)
    return add_max_pool(call, source, MaxPool(reduced_window(source, axes), (1, 1)))
