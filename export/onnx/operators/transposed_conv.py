"""A transposed convolution: ConvInteger on levels with zeros between the pixels."""

from dataclasses import replace

import numpy as np

from nupes.export.crop import cropped
from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import Bytes, add_products, decode
from nupes.export.onnx.operators.conv import weights_of
from nupes.model.operators import Padding, TransposedConv

__all__ = ["add_transposed_conv"]


def add_transposed_conv(graph: Graph, op: TransposedConv, sources: list[Operand], name: str) -> str:
    """Append the sum of products, int64."""
    (source,) = sources
    spread, padding = [], op.padding
    for number, operand in enumerate(
        decode(graph, source.tensor.codebook, source.value, f"{name}/input")
    ):
        value, padding = stretch(graph, op, source, operand, f"{name}/stretched_{number}")
        spread.append(value)
    kernel = weights_of(graph, op, name)
    return add_products(graph, op, padding, spread, kernel, op.groups, name)


def stretch(
    graph: Graph, op: TransposedConv, source: Operand, operand: Bytes, output: str
) -> tuple[Bytes, Padding]:
    """Append an operand with zeros between its pixels; return it and the padding that is left."""
    value, zero = operand
    (height, width, channels), (y, x) = source.tensor.shape, op.stretch
    apart = graph.constant([0, channels, height, 1, width, 1], np.int64, f"{output}_apart")
    pads = graph.constant([0] * 9 + [y - 1, 0, x - 1], np.int64, f"{output}_pads")
    shape = graph.constant([0, channels, height * y, width * x], np.int64, f"{output}_shape")
    fill = graph.constant(zero, np.uint8, f"zero_point/{zero}")
    value = graph.add("Reshape", [value, apart], f"{output}_pixels")
    value = graph.add("Pad", [value, pads, fill], f"{output}_zeros")
    value = graph.add("Reshape", [value, shape], output)
    whole = Operand(replace(source.tensor, shape=(height * y, width * x, channels)), value)
    part, padding = cropped(graph, op.of_zeros, whole, f"{output}_cropped")
    return (part.value, zero), padding
