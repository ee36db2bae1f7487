"""A sum of products: for each pair Mul of levels, the factor's channels gathered; then Add."""

from functools import reduce

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import SumOfProducts

__all__ = ["add_sum_of_products"]


def add_sum_of_products(
    graph: Shaped, op: SumOfProducts, sources: list[Operand], name: str, where: str
) -> str:
    """Append the sums of products of levels, float32: integers below 2**24."""
    shape = planes(op.shape(*(source.tensor.shape for source in sources)))

    def product(pair: int, channels: tuple[int, ...]) -> str:
        factor, whole = sources[2 * pair : 2 * pair + 2]
        height, width, _ = factor.tensor.shape
        order = graph.constant(channels, np.int64, f"{name}/{pair}/channels")
        size = planes((height, width, len(channels)))
        label = f"{name}/{pair}/taken"
        taken = graph.put("Gather", [factor.value, order], label, np.float32, size, axis=1)
        label = f"{name}/{pair}/product"
        return graph.put("Mul", [taken, whole.value], label, np.float32, shape)

    def add(first: str, second: str) -> str:
        return graph.put("Add", [first, second], f"{second}/sum", np.float32, shape)

    return reduce(add, (product(*item) for item in enumerate(op.channels)))
