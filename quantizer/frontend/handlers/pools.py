"""Pools: maxima and means over windows. Where the size or the divisor of the windows varies, each
rectangle of results whose windows are alike is a pool of its own, and a mosaic joins them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Mosaic, Padding, Piece
from nupes.model.tensor import Shape
from nupes.quantizer.frontend.call import Call
from nupes.quantizer.frontend.graph import Node, Pad, Pool
from nupes.quantizer.frontend.handlers.pairs import Pair, plane, sizes_of, source_of
from nupes.quantizer.frontend.handlers.spans import (
    Run,
    Span,
    adaptive_spans,
    runs_of,
    window_spans,
)
from nupes.quantizer.frontend.registry import handles

__all__ = [
    "adaptive_average_pool",
    "adaptive_max_pool",
    "add_average_pool",
    "add_max_pool",
    "average_pool",
    "max_pool",
]

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


def one_stride(op: MaxPool | AveragePool, shape: Shape) -> Pair:
    """Return a window's stride; along an axis with a single window that reaches the end there is
    none."""
    height, width, _ = replace(op, stride=(1, 1)).shape(shape)
    return (1 if height == 1 else op.stride[0]), (1 if width == 1 else op.stride[1])


@handles("max_pool1d", "max_pool2d", "max_pool2d_with_indices", ignores=("ceil_mode",))
def max_pool(
    call: Call, input: fx.Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> str:
    """Translate ``max_pool1d`` and ``max_pool2d``; windows beyond the map are padding."""
    source = source_of(call, input)
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
    source = source_of(call, input)
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
    op = replace(op, stride=one_stride(op, source.shape))
    return call.add(op, (source.name,), shape, "max_pool2d", part)


def add_average_pool(
    call: Call, source: Node, op: AveragePool, divisor: int, part: str = ""
) -> str:
    """Add an average pool."""
    shape = op.shape(source.shape)
    op = replace(op, stride=one_stride(op, source.shape))
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
