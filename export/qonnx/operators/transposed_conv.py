"""A transposed convolution: Conv of levels with zeros between the pixels."""

import numpy as np

from nupes.export.graph import Operand
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
    return graph.put(
        "Conv",
        [stretch(graph, op, source, f"{name}/stretched"), kernel],
        f"{name}/acc",
        np.float32,
        planes(op.shape(source.tensor.shape)),
        kernel_shape=op.kernel,
        pads=[0, 0, 0, 0],
        strides=op.stride,
        dilations=op.dilation,
        group=op.groups,
    )


def stretch(graph: Shaped, op: TransposedConv, source: Operand, output: str) -> str:
    """Append the levels with zeros between the pixels, padded."""
    height, width, channels = source.tensor.shape
    y, x = op.stretch
    top, bottom, left, right = op.padding
    zero = graph.constant(0, np.float32, "zero/float")
    value = source.value
    for step, (shape, pads) in enumerate(
        (
            ([1, channels, height, 1, width, 1], [0] * 9 + [y - 1, 0, x - 1]),
            # The zeros behind the last row and column are padding already.
            (
                [1, channels, height * y, width * x],
                [0, 0, top, left, 0, 0, bottom - (y - 1), right - (x - 1)],
            ),
        )
    ):
        target = graph.constant(shape, np.int64, f"{output}_shape_{step}")
        ends = graph.constant(pads, np.int64, f"{output}_pads_{step}")
        value = graph.put(
            "Reshape", [value, target], f"{output}_reshaped_{step}", np.float32, tuple(shape)
        )
        count = len(shape)
        padded = tuple(
            size + before + after
            for size, before, after in zip(shape, pads[:count], pads[count:], strict=True)
        )
        value = graph.put("Pad", [value, ends, zero], f"{output}_padded_{step}", np.float32, padded)
    return value
