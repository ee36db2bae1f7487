"""A sum of products in the firmware."""

from itertools import chain

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import SumOfProducts

__all__ = ["describe_sum_of_products"]


def describe_sum_of_products(op: SumOfProducts) -> Described:
    """Return the number of pairs, and the channels of all factors, one after another."""
    selected = tuple(chain.from_iterable(op.channels))
    return Described("NUPES_SUM_OF_PRODUCTS", {"pairs": len(op.channels)}, selected=selected)
