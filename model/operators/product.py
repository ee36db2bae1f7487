"""Elementwise product of two stored maps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import Operator
from nupes.model.tensor import Ends, Shape

__all__ = ["Product"]


@dataclass(frozen=True)
class Product(Operator):
    """The level of the first input times that of the second, which are requantized once.

    The first input may have a height, a width or a number of channels of 1: it then serves all
    rows, columns or channels of the second one, whose shape the result has. A gate (1, 1, c) of a
    map (h, w, c) is its first input.
    """

    kind: ClassVar[str] = "product"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the second input; refuse a first one that does not serve it."""
        factor, whole = inputs
        if any(size not in (1, full) for size, full in zip(factor, whole, strict=True)):
            raise InputError(
                f"the first factor of a product must have each size of the second one, {whole}, "
                f"or 1, not {factor}"
            )
        return whole

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the products of levels."""
        factor, whole = levels
        return factor.astype(np.int32) * whole.astype(np.int32)

    def bound(self, *ends: Ends) -> int:
        """Return the product of the largest magnitudes."""
        largest = [max(abs(low), abs(high)) for low, high in ends]
        return largest[0] * largest[1]
