"""A sum of products: for each pair Mul of levels, the factor's channels gathered; then Add."""

from functools import reduce

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.model.operators import SumOfProducts

__all__ = ["add_sum_of_products"]


def add_sum_of_products(graph: Graph, op: SumOfProducts, sources: list[Operand], name: str) -> str:
    """Append the sums of products of levels, int64: the bound of a network lets int32 hold them."""

    def levels(source: Operand, label: str) -> str:
        table = graph.constant(source.tensor.codebook.levels, np.int32, f"{label}_table")
        index = graph.cast(source.value, np.int32, f"{label}_index")
        return graph.add("Gather", [table, index], f"{label}_levels")

    def product(pair: int, channels: tuple[int, ...]) -> str:
        factor, whole = sources[2 * pair : 2 * pair + 2]
        label = f"{name}/{pair}"
        order = graph.constant(channels, np.int64, f"{label}/channels")
        found = levels(factor, f"{label}/factor")
        taken = graph.add("Gather", [found, order], f"{label}/taken", axis=1)
        return graph.add("Mul", [taken, levels(whole, f"{label}/whole")], f"{label}/product")

    def add(first: str, second: str) -> str:
        return graph.add("Add", [first, second], f"{second}/sum")

    total = reduce(add, (product(*item) for item in enumerate(op.channels)))
    return graph.cast(total, np.int64, f"{name}/sum")
