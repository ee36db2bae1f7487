"""A product of two maps: Mul of levels, the first factor broadcast."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.model.operators import Product

__all__ = ["add_product"]


def add_product(graph: Graph, op: Product, sources: list[Operand], name: str) -> str:
    """Append the products of levels, int64: at most 2**16, so int32 holds them."""
    factors = []
    for source, part in zip(sources, ("first", "second"), strict=True):
        levels = graph.constant(source.tensor.codebook.levels, np.int32, f"{name}/{part}_table")
        index = graph.cast(source.value, np.int32, f"{name}/{part}_index")
        factors.append(graph.add("Gather", [levels, index], f"{name}/{part}_levels"))
    return graph.cast(graph.add("Mul", factors, f"{name}/acc"), np.int64, f"{name}/sum")
