"""Two-dimensional convolutions, transposed ones too."""

from typing import Any

from torch import fx

from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.handlers.pairs import pair, symmetric
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import channel_order

__all__ = ["translate_convolution", "transpose"]


@handles("conv2d", "convolution")
def translate_convolution(
    call: Call,
    input: fx.Node,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    transposed: bool = False,
    output_padding: Any = 0,
) -> str:
    """Translate ``conv2d``, with numeric or named padding, and ``convolution``. Channels in another
    order become weights in another order."""
    kernel = call.weight(weight, "weight")
    if transposed:
        return transpose(
            call, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    if kernel.ndim != 4 or not is_map(input):
        call.refuse("only two-dimensional convolution of a batch is supported")
    source = call.viewed(input)
    order = None if groups > 1 else channel_order(call.places(input), source.shape)
    if order is None:
        source = call.source(input)
    elif input in call.values.views:
        kernel = kernel[:, order.argsort()]
    dilation = pair(dilation)
    if padding == "same":
        total = [dilation[axis] * (kernel.shape[2 + axis] - 1) for axis in (0, 1)]
        sides = (total[0] // 2, -(-total[0] // 2), total[1] // 2, -(-total[1] // 2))
    else:
        sides = symmetric(pair(0 if padding == "valid" else padding))
    channels, height, width = value_shape(call.node)
    offsets = call.vector(bias, 0.0, len(kernel), "bias")
    op = Convolution(kernel, offsets, pair(stride), sides, dilation, groups)
    return call.add(op, (source.name,), (height, width, channels), "conv2d")


@handles("conv_transpose2d")
def transpose(
    call: Call,
    input: fx.Node,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> str:
    """Translate ``conv_transpose2d``: a convolution, its kernel turned, over the stretched map."""
    source = call.source(input)
    kernel = call.weight(weight, "weight")
    if kernel.ndim != 4 or not is_map(input):
        call.refuse("only two-dimensional convolution of a batch is supported")
    inputs, per_group, *size = kernel.shape
    turned = kernel[:, :, ::-1, ::-1].reshape(groups, inputs // groups, per_group, *size)
    turned = turned.swapaxes(1, 2).reshape(groups * per_group, inputs // groups, *size)
    spread, before, more = pair(dilation), pair(padding), pair(output_padding)
    ends = [spread[axis] * (size[axis] - 1) - before[axis] for axis in (0, 1)]
    sides = (ends[0], ends[0] + more[0], ends[1], ends[1] + more[1])
    channels, height, width = value_shape(call.node)
    offsets = call.vector(bias, 0.0, len(turned), "bias")
    op = Convolution(turned, offsets, (1, 1), sides, spread, groups, pair(stride))
    return call.add(op, (source.name,), (height, width, channels), "conv_transpose2d")
