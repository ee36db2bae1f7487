"""Pools: maxima over windows, and sums over windows with a constant divisor."""

from typing import Any

from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Padding
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Node, Pool
from nupes.quantizer.frontend.handlers.pairs import Pair, plane, sizes_of
from nupes.quantizer.frontend.registry import handles

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "max_pool", "mean"]


def window_padding(
    call: Call, input: fx.Node, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Padding, bool]:
    """Return the padding with which windows reach what a call gives, and whether ``ceil_mode`` made
    it larger at the bottom and right."""
    size, sides, larger = call.source(input).shape, [], False
    for axis, count in enumerate(sizes_of(call, input)):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        needed = (count - 1) * stride[axis] + extent - size[axis] - padding[axis]
        larger |= needed > padding[axis]
        sides += [padding[axis], max(padding[axis], needed)]
    return (sides[0], sides[1], sides[2], sides[3]), larger


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
    step = plane(call, input, stride or kernel_size, 1)
    padding = plane(call, input, padding, 0)
    sides, _ = window_padding(call, input, kernel, step, padding, spread)
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
    """Translate ``avg_pool1d`` and ``avg_pool2d`` with a constant divisor."""
    source = call.source(input)
    kernel, padding = plane(call, input, kernel_size, 1), plane(call, input, padding, 0)
    step = plane(call, input, stride or kernel_size, 1)
    sides, larger = window_padding(call, input, kernel, step, padding, (1, 1))
    if larger and divisor_override is None:
        call.refuse("ceil_mode must be False where windows leave the map; their divisor varies")
    if any(padding) and not count_include_pad and divisor_override is None:
        call.refuse("count_include_pad must be True with padding; its divisor varies")
    divisor = kernel[0] * kernel[1] if divisor_override is None else divisor_override
    if divisor < 0:
        call.refuse(f"divisor_override must be positive, not {divisor}")
    return add_average_pool(call, source, AveragePool(kernel, step, sides), divisor)


def add_max_pool(call: Call, source: Node, op: MaxPool) -> str:
    """Add a max-pool."""
    shape = op.shape(source.shape)
    op = MaxPool(op.kernel, one_stride(shape, op.stride), op.padding, op.dilation)
    return call.add(op, (source.name,), shape, "max_pool2d")


def add_average_pool(call: Call, source: Node, op: AveragePool, divisor: int) -> str:
    """Add an average pool."""
    shape = op.shape(source.shape)
    op = AveragePool(op.kernel, one_stride(shape, op.stride), op.padding)
    return call.add(Pool(op, 1.0 / divisor), (source.name,), shape, "avg_pool2d")


def adaptive_window(call: Call, input: fx.Node) -> Pair:
    """Return the window of an adaptive pool to a size that divides the map."""
    height, width, _ = call.source(input).shape
    rows, columns = sizes_of(call, input)
    if height % rows or width % columns:
        call.refuse(
            f"its output size {(rows, columns)} must divide the map {(height, width)}; "
            "its divisor varies"
        )
    return height // rows, width // columns


@handles(
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"),
    ignores=("output_size",),
)
def adaptive_average_pool(call: Call, input: fx.Node) -> str:
    """Translate adaptive average pools to a size that divides the map."""
    source, window = call.source(input), adaptive_window(call, input)
    return add_average_pool(call, source, AveragePool(window, window), window[0] * window[1])


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", ignores=("output_size",))
def adaptive_max_pool(call: Call, input: fx.Node) -> str:
    """Translate adaptive max-pools to a size that divides the map."""
    window = adaptive_window(call, input)
    return add_max_pool(call, call.source(input), MaxPool(window, window))


def whole_map(call: Call, input: fx.Node, dim: Any) -> Pair:
    """Return the window of a reduction over height and width, or over a sequence."""
    shape, dims = call.anywhere(input).shape, len(full_shape(input))
    axes = None if dim is None else sorted(axis % dims for axis in dim)
    first, last = list(range(2, dims)), list(range(1, dims - 1))
    fits = (axes == first and call.is_first(input)) or (axes == last and call.is_last(input))
    if not axes or not fits:
        wanted = last if call.is_last(input) and not call.is_first(input) else first or [2, 3]
        call.refuse(
            f"{call.kind} must be over height and width, dimensions {tuple(wanted)}, not {dim}"
        )
    return shape[:2]


@handles("mean", ignores=("keepdim",))
def mean(call: Call, input: fx.Node, dim: Any = None) -> str:
    """Translate the mean over height and width."""
    window = whole_map(call, input, dim)
    divisor = window[0] * window[1]
    return add_average_pool(call, call.viewed(input), AveragePool(window, window), divisor)


@handles("amax", ignores=("keepdim",))
def largest(call: Call, input: fx.Node, dim: Any) -> str:
    """Translate the maximum over height and width."""
    window = whole_map(call, input, dim)
    return add_max_pool(call, call.viewed(input), MaxPool(window, window))
