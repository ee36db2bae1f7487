"""Convolutions of maps and of sequences, transposed ones too."""

from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from nupes.quantizer.frontend.call import Call, full_shape, is_map
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.handlers.pairs import plane, sizes_of, source_of, symmetric
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import channel_order

__all__ = ["translate_convolution", "transpose"]


@handles("conv1d", "conv2d", "convolution")
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
    """Translate ``conv1d`` and ``conv2d``, with numeric or named padding, and ``convolution``.
    Channels in another order become weights in another order."""
    kernel = call.weight(weight, "weight")
    if transposed:
        return transpose(
            call, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    if kernel.ndim not in (3, 4) or len(full_shape(input)) != kernel.ndim:
        call.refuse("only one- or two-dimensional convolution of a batch is supported")
    source, order = call.viewed(input), None
    if source.shape[:2] == (1, 1) and not call.is_first(input):
        offsets = call.vector(bias, 0.0, len(kernel), "bias")
        return along_vector(call, input, kernel, offsets, (stride, padding, dilation, groups))
    if groups == 1 and input in call.views:
        order = channel_order(call.places(input), source.shape)
    if order is None:
        source = source_of(call, input)
    else:
        kernel = kernel[:, order.argsort()]
    if kernel.ndim == 3:
        size = plane(call, input, kernel.shape[2], 1)
        kernel = kernel.reshape(*kernel.shape[:2], *size)
    dilation = plane(call, input, dilation, 1)
    if padding == "same":
        total = [dilation[axis] * (kernel.shape[2 + axis] - 1) for axis in (0, 1)]
        sides = (total[0] // 2, -(-total[0] // 2), total[1] // 2, -(-total[1] // 2))
    else:
        sides = symmetric(plane(call, input, 0 if padding == "valid" else padding, 0))
    offsets = call.vector(bias, 0.0, len(kernel), "bias")
    op = Convolution(kernel, offsets, plane(call, input, stride, 1), sides, dilation, groups)
    shape = (*sizes_of(call, input), len(kernel))
    return call.add(op, (source.name,), shape, "conv2d" if is_map(input) else "conv1d")


def along_vector(
    call: Call, input: fx.Node, kernel: np.ndarray, bias: np.ndarray, options: tuple
) -> str:
    """Add a convolution over a vector's values, as that of efficient channel attention: a linear
    layer, whose weights PyTorch gives as the results for unit vectors."""
    source, places = call.viewed(input), torch.from_numpy(call.places(input)).long()
    units = torch.eye(source.shape[2], dtype=torch.float64)[:, places]
    convolve: Any = F.conv1d if kernel.ndim == 3 else F.conv2d
    weight = convolve(units, torch.from_numpy(kernel).double(), None, *options).flatten(1).T.numpy()
    op = Convolution(weight[:, :, None, None], bias.repeat(len(weight) // len(bias)))
    return call.add(op, (source.name,), (1, 1, len(weight)), call.kind)


@handles("conv_transpose1d", "conv_transpose2d")
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
    """Translate transposed convolutions: a convolution, its kernel turned, over the stretched
    map."""
    kernel = call.weight(weight, "weight")
    if kernel.ndim not in (3, 4) or len(full_shape(input)) != kernel.ndim:
        call.refuse("only one- or two-dimensional convolution of a batch is supported")
    source = call.source(input)
    inputs, per_group = kernel.shape[:2]
    size = plane(call, input, list(kernel.shape[2:]), 1)
    turned = kernel.reshape(groups, inputs // groups, per_group, *size)[..., ::-1, ::-1]
    turned = turned.swapaxes(1, 2).reshape(groups * per_group, inputs // groups, *size)
    turned = np.ascontiguousarray(turned)  # PyTorch reads no array backwards
    spread, stretch = plane(call, input, dilation, 1), plane(call, input, stride, 1)
    before, more = plane(call, input, padding, 0), plane(call, input, output_padding, 0)
    ends = [spread[axis] * (size[axis] - 1) - before[axis] for axis in (0, 1)]
    sides = (ends[0], ends[0] + more[0], ends[1], ends[1] + more[1])
    offsets = call.vector(bias, 0.0, len(turned), "bias")
    op = Convolution(turned, offsets, (1, 1), sides, spread, groups, stretch)
    shape = (*sizes_of(call, input), len(turned))
    return call.add(op, (source.name,), shape, "conv_transpose2d")
