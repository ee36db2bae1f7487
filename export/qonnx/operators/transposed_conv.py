"""A transposed convolution: Conv of levels with zeros between the pixels."""

from dataclasses import replace

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.convolution import convolve
from nupes.export.qonnx.operators.conv import quantized_weights
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import TransposedConv

__all__ = ["add_transposed_conv"]


def add_transposed_conv(
    graph: Shaped, op: TransposedConv, sources: list[Operand], name: str, where: str
) -> str:
    """Append the sum of products, float32."""
    (source,) = sources
    kernel = quantized_weights(graph, op, f"{where}: weight codebook", name)
    whole = stretch(graph, op, source, f"{name}/stretched")
    return convolve(graph, op.of_zeros, whole, kernel, op.groups, name)


def stretch(graph: Shaped, op: TransposedConv, source: Operand, output: str) -> Operand:
    """Append the levels with zeros between the pixels, and behind the last row and column."""
    (height, width, channels), (y, x) = source.tensor.shape, op.stretch
    shape = height * y, width * x, channels
    pixels, padded = (1, channels, height, 1, width, 1), (1, channels, height, y, width, x)
    apart = graph.constant(pixels, np.int64, f"{output}_apart")
    pads = graph.constant([0] * 9 + [y - 1, 0, x - 1], np.int64, f"{output}_pads")
    target = graph.constant(planes(shape), np.int64, f"{output}_shape")
    zero = graph.constant(0, np.float32, "zero/float")
    value = graph.put("Reshape", [source.value, apart], f"{output}_pixels", np.float32, pixels)
    value = graph.put("Pad", [value, pads, zero], f"{output}_zeros", np.float32, padded)
    value = graph.put("Reshape", [value, target], output, np.float32, planes(shape))
    return Operand(replace(source.tensor, shape=shape), value)
