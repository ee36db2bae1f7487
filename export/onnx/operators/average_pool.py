"""An average pool: a depthwise convolution with ones; the divisor is the requantization's."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import convolve
from nupes.model.operators import AveragePool

__all__ = ["add_average_pool"]


def add_average_pool(graph: Graph, op: AveragePool, sources: list[Operand], name: str) -> str:
    """Append the sum over each window, int64."""
    (source,) = sources
    channels = source.tensor.shape[2]
    ones = graph.constant(np.ones((channels, 1, *op.kernel)), np.uint8, f"{name}/ones")
    return convolve(graph, op, source, (ones, 0), channels, name)
