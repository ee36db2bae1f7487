"""Accumulators of windows: a Conv of integer levels in float32."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import Window

__all__ = ["convolve"]


def convolve(
    graph: Shaped, op: Window, source: Operand, kernel: str, groups: int, name: str
) -> str:
    """Append the accumulator of a window with a kernel (n, c / groups, kh, kw), float32."""
    part, (top, bottom, left, right) = graph.crop(op, source, f"{name}/cropped")
    return graph.put(
        "Conv",
        [part.value, kernel],
        f"{name}/acc",
        np.float32,
        planes(op.shape(source.tensor.shape)),
        kernel_shape=op.kernel,
        pads=[top, left, bottom, right],
        strides=op.stride,
        dilations=op.dilation,
        group=groups,
    )
