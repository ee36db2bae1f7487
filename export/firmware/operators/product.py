"""A product of two maps in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import Product

__all__ = ["describe_product"]


def describe_product(op: Product) -> Described:
    """Return the kind alone: the ports say what is broadcast."""
    return Described("NUPES_PRODUCT")
