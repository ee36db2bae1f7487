"""A selection of channels and pixels: a 1x1 Conv with one 1 for each channel that exists."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.convolution import convolve
from nupes.export.qonnx.shaped import Shaped
from nupes.model.operators import Select

__all__ = ["add_select"]


def add_select(graph: Shaped, op: Select, sources: list[Operand], name: str, where: str) -> str:
    """Append the levels that are copied, float32."""
    (source,) = sources
    chosen = op.matrix(source.tensor.shape[2]).T[:, :, np.newaxis, np.newaxis]
    kernel = graph.constant(chosen, np.float32, f"{name}/selection")
    return convolve(graph, op, source, kernel, 1, name)
