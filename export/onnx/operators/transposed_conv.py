"""A transposed convolution: ConvInteger on levels with zeros between the pixels."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import Bytes, add_products, decode
from nupes.export.onnx.operators.conv import weights_of
from nupes.model.operators import TransposedConv

__all__ = ["add_transposed_conv"]


def add_transposed_conv(graph: Graph, op: TransposedConv, sources: list[Operand], name: str) -> str:
    """Append the sum of products, int64."""
    (source,) = sources
    operands = decode(graph, source.tensor.codebook, source.value, f"{name}/input")
    spread = [
        stretch(graph, op, source, operand, f"{name}/stretched_{number}")
        for number, operand in enumerate(operands)
    ]
    kernel = weights_of(graph, op, name)
    return add_products(graph, op, (0, 0, 0, 0), spread, kernel, op.groups, name)


def stretch(
    graph: Graph, op: TransposedConv, source: Operand, operand: Bytes, output: str
) -> Bytes:
    """Append an operand with zeros between its pixels, padded."""
    value, zero = operand
    height, width, channels = source.tensor.shape
    y, x = op.stretch
    top, bottom, left, right = op.padding
    fill = graph.constant(zero, np.uint8, f"zero_point/{zero}")
    for step, (shape, pads) in enumerate(
        (
            ([0, channels, height, 1, width, 1], [0] * 9 + [y - 1, 0, x - 1]),
            # The zeros behind the last row and column are padding already.
            (
                [0, channels, height * y, width * x],
                [0, 0, top, left, 0, 0, bottom - (y - 1), right - (x - 1)],
            ),
        )
    ):
        target = graph.constant(shape, np.int64, f"{output}_shape_{step}")
        ends = graph.constant(pads, np.int64, f"{output}_pads_{step}")
        value = graph.add("Reshape", [value, target], f"{output}_reshaped_{step}")
        value = graph.add("Pad", [value, ends, fill], f"{output}_padded_{step}")
    return value, zero
