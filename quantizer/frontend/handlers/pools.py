"""Pools: maxima over windows, and sums over windows with a constant divisor."""

from typing import Any

from torch import fx

from nupes.model.operators import AveragePool, MaxPool, Padding
from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Node, Pool
from nupes.quantizer.frontend.handlers.pairs import pair
from nupes.quantizer.frontend.registry import handles

__all__ = ["adaptive_average_pool", "adaptive_max_pool", "average_pool", "max_pool", "mean"]

Pair = tuple[int, int]


def window_padding(
    call: Call, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[Padding, bool]:
    """Return the padding with which windows reach what a call gives, and whether ``ceil_mode`` made
    it larger at the bottom and right."""
    sides, larger = [], False
    for axis, count in enumerate(value_shape(call.node)[-2:]):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        needed = (count - 1) * stride[axis] + extent - size[axis] - padding[axis]
        larger |= needed > padding[axis]
        sides += [padding[axis], max(padding[axis], needed)]
    return (sides[0], sides[1], sides[2], sides[3]), larger


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
    sides, _ = window_padding(call, source.shape[:2], kernel, step, pair(padding), spread)
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
    """Translate ``avg_pool2d`` with a constant divisor."""
    source = call.source(input)
    kernel, padding = pair(kernel_size), pair(padding)
    step = pair(stride or kernel)
    sides, larger = window_padding(call, source.shape[:2], kernel, step, padding, (1, 1))
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


def adaptive_window(call: Call, source: Node, sizes: Any) -> Pair:
    """Return the window of an adaptive pool to a size that divides the map."""
    height, width, _ = source.shape
    asked = [sizes] * 2 if isinstance(sizes, int) else list(sizes)
    rows, columns = (
        size if wanted is None else int(wanted)
        for size, wanted in zip((height, width), asked, strict=True)
    )
    if height % rows or width % columns:
        call.refuse(
            f"its output size {(rows, columns)} must divide the map {(height, width)}; "
            "its divisor varies"
        )
    return height // rows, width // columns


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_average_pool(call: Call, input: fx.Node, output_size: Any) -> str:
    """Translate ``adaptive_avg_pool2d`` to a size that divides the map."""
    source = call.source(input)
    window = adaptive_window(call, source, output_size)
    return add_average_pool(call, source, AveragePool(window, window), window[0] * window[1])


@handles("adaptive_max_pool2d")
def adaptive_max_pool(call: Call, input: fx.Node, output_size: Any) -> str:
    """Translate ``adaptive_max_pool2d`` to a size that divides the map."""
    source = call.source(input)
    window = adaptive_window(call, source, output_size)
    return add_max_pool(call, source, MaxPool(window, window))


def whole_map(call: Call, input: fx.Node, dim: Any) -> Pair:
    """Return the window of a reduction over height and width."""
    source = call.source(input)
    axes = None if dim is None else sorted(axis % 4 for axis in dim)
    if not is_map(input) or axes != [2, 3]:
        call.refuse(f"{call.kind} must be over height and width, dimensions (2, 3), not {dim}")
    return source.shape[:2]


@handles("mean", ignores=("keepdim",))
def mean(call: Call, input: fx.Node, dim: Any = None) -> str:
    """Translate the mean over height and width."""
    window = whole_map(call, input, dim)
    divisor = window[0] * window[1]
    return add_average_pool(call, call.source(input), AveragePool(window, window), divisor)


@handles("amax", ignores=("keepdim",))
def largest(call: Call, input: fx.Node, dim: Any) -> str:
    """Translate the maximum over height and width."""
    window = whole_map(call, input, dim)
    return add_max_pool(call, call.source(input), MaxPool(window, window))
