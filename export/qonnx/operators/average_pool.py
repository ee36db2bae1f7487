"""An average pool: a depthwise Conv with ones; the divisor is the requantization's."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.convolution import convolve
from nupes.export.qonnx.shaped import Shaped
from nupes.model.operators import AveragePool

__all__ = ["add_average_pool"]


def add_average_pool(
    graph: Shaped, op: AveragePool, sources: list[Operand], name: str, where: str
) -> str:
    """Append the sum over each window, float32."""
    (source,) = sources
    channels = source.tensor.shape[2]
    ones = graph.constant(np.ones((channels, 1, *op.kernel)), np.float32, f"{name}/ones")
    return convolve(graph, op, source, ones, channels, name)
