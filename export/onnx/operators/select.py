"""A selection of channels and pixels: a 1x1 convolution with one 1 for each channel that exists."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import convolve
from nupes.model.operators import Select

__all__ = ["add_select"]


def add_select(graph: Graph, op: Select, sources: list[Operand], name: str) -> str:
    """Append the levels that are copied, int64."""
    (source,) = sources
    chosen = op.matrix(source.tensor.shape[2]).T[:, :, np.newaxis, np.newaxis]
    kernel = graph.constant(chosen, np.uint8, f"{name}/selection")
    return convolve(graph, op, source, (kernel, 0), 1, name)
