"""The contract once more, in Python integers and plain loops: slow, and independent of NumPy's.

Each operator has a module of its own, found by its kind; it takes the levels of its inputs, or
their codes if it copies.
"""

from collections.abc import Callable

from nupes.model.operators import Operator
from tests.model.reference import (
    average_pool,
    concat,
    conv,
    matmul,
    max_pool,
    mosaic,
    normalize,
    product,
    select,
    subtract_max,
    sum_of_products,
    transposed_conv,
    weighted_mean,
)
from tests.model.reference.windows import Map

__all__ = ["OPERATORS", "result_of"]

OPERATORS: dict[str, Callable[..., Map]] = {
    "average_pool": average_pool.sums,
    "concat": concat.codes,
    "conv": conv.sums,
    "matmul": matmul.products,
    "max_pool": max_pool.codes,
    "mosaic": mosaic.codes,
    "normalize": normalize.normalized,
    "product": product.products,
    "select": select.levels,
    "subtract_max": subtract_max.distances,
    "sum_of_products": sum_of_products.sums,
    "transposed_conv": transposed_conv.sums,
    "weighted_mean": weighted_mean.means,
}
"""What each kind of operator computes."""


def result_of(op: Operator, *inputs: Map) -> Map:
    """Return the accumulators of one image, or its codes where the operator copies."""
    return OPERATORS[op.kind](op, *inputs)
