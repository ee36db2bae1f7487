"""A product of two maps: Mul of levels, the first factor broadcast."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import Product

__all__ = ["add_product"]


def add_product(graph: Shaped, op: Product, sources: list[Operand], name: str, where: str) -> str:
    """Append the products of levels, float32: integers of at most 2**16."""
    shape = planes(op.shape(*(source.tensor.shape for source in sources)))
    factors = [source.value for source in sources]
    return graph.put("Mul", factors, f"{name}/acc", np.float32, shape)
