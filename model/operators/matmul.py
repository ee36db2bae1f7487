"""Product of two stored tensors as matrices."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.arithmetic import exact_matmul
from nupes.model.operators.operator import Operator, check_numbers
from nupes.model.operators.stationary import check_terms, product_bound, rows_of
from nupes.model.tensor import Ends, Shape

__all__ = ["Matmul"]


@dataclass(frozen=True)
class Matmul(Operator):
    """The first input's pixels, as rows, times the second one's pixels as rows of a matrix, or as
    its columns if ``transposed``; ``terms`` products make a sum.

    Scores are queries times keys, transposed: channel ``j`` of a pixel's result is the sum over
    channels of the query's level times that of pixel ``j``, in raster order, of the keys.
    """

    terms: int
    transposed: bool

    kind: ClassVar[str] = "matmul"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def check(self) -> None:
        """Refuse a number of terms out of its range."""
        check_numbers(terms=(self.terms, 1, 1))

    def shape(self, *inputs: Shape) -> Shape:
        """Return (h, w, n), n the second input's pixels if ``transposed``, else its channels."""
        (height, width, _), (rows, columns, channels) = inputs
        check_terms(self.terms, self.transposed, *inputs)
        return height, width, rows * columns if self.transposed else channels

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the sums of products."""
        source, other = levels
        if bound is None:
            largest = [int(np.abs(part).max(initial=0)) for part in levels]
            bound = self.terms * largest[0] * largest[1]
        matrix = rows_of(other)
        if self.transposed:
            matrix = matrix.transpose(0, 2, 1)
        sums = exact_matmul(rows_of(source), matrix, bound)
        return sums.reshape(*source.shape[:3], -1)

    def bound(self, *ends: Ends) -> int:
        """Return ``terms`` times the largest product of two levels, of either sign."""
        return product_bound(self.terms, *ends)

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates for one image."""
        height, width, channels = self.shape(*inputs)
        return height * width * channels * self.terms
