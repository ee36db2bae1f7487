"""A concatenation: Concat of levels, which have one codebook."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import Concat

__all__ = ["add_concat"]


def add_concat(graph: Shaped, op: Concat, sources: list[Operand], name: str, where: str) -> str:
    """Append the levels of all inputs side by side, float32."""
    shape = planes(op.shape(*(source.tensor.shape for source in sources)))
    values = [source.value for source in sources]
    return graph.put("Concat", values, f"{name}/levels", np.float32, shape, axis=1)
