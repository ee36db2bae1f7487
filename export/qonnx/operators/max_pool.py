"""A max-pool: MaxPool of levels."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import MaxPool

__all__ = ["add_max_pool"]


def add_max_pool(graph: Shaped, op: MaxPool, sources: list[Operand], name: str, where: str) -> str:
    """Append a maximum of levels, float32; padding with the lowest changes none."""
    (source,) = sources
    part, padding = graph.crop(op, source, f"{name}/cropped")
    levels, (height, width, channels) = part.value, part.tensor.shape
    top, bottom, left, right = padding
    if any(padding):
        pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64, f"{name}/pads")
        least = source.tensor.codebook.levels[0]
        lowest = graph.constant(least, np.float32, f"{name}/lowest")
        padded = planes((top + height + bottom, left + width + right, channels))
        levels = graph.put("Pad", [levels, pads, lowest], f"{name}/padded", np.float32, padded)
    return graph.put(
        "MaxPool",
        [levels],
        f"{name}/levels",
        np.float32,
        planes(op.shape(source.tensor.shape)),
        kernel_shape=op.kernel,
        strides=op.stride,
        dilations=op.dilation,
    )
