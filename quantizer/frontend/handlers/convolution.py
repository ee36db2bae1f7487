"""Two-dimensional convolutions."""

from typing import Any

from torch import fx

from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.handlers.pairs import pair, symmetric
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import channel_order

__all__ = ["translate_convolution"]


@handles("conv2d", "convolution", ignores=("output_padding",))
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
) -> str:
    """Translate ``conv2d``, with numeric or named padding, and ``convolution``. Channels in another
    order become weights in another order."""
    kernel = call.weight(weight, "weight")
    if transposed:
        call.refuse("transposed convolution is not supported")
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
