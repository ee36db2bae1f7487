"""Weighted means of rows: what follows softmax."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.arithmetic import exact_matmul
from nupes.model.errors import InputError
from nupes.model.operators.operator import Operator, check_numbers
from nupes.model.operators.stationary import check_terms, product_bound, rows_of
from nupes.model.tensor import Ends, Shape
from nupes.model.token_stage import FRACTION_BITS, reciprocal, scale_tokens

__all__ = ["WeightedMean"]


@dataclass(frozen=True)
class WeightedMean(Operator):
    """For each pixel of the first input, whose channels are weights, the mean of the second input's
    pixels: ``2**15 * sum(weight * value) / sum(weight)``.

    The weights are levels of at least 0, softmax's numerators: dividing by their exact sum makes
    them add up to one, whatever the codebook.
    """

    terms: int

    kind: ClassVar[str] = "weighted_mean"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def check(self) -> None:
        """Refuse a number of terms out of its range."""
        check_numbers(terms=(self.terms, 1, 1))

    def shape(self, *inputs: Shape) -> Shape:
        """Return (h, w, c): pixels of the first input, channels of the second one."""
        (height, width, _), (_, _, channels) = inputs
        check_terms(self.terms, False, *inputs)
        return height, width, channels

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the means, with 15 bits behind the binary point."""
        weights, values = levels
        if bound is None:
            ends = [(int(part.min(initial=0)), int(part.max(initial=0))) for part in levels]
            bound = self.bound(*ends)
        sums = exact_matmul(rows_of(weights), rows_of(values), bound)
        total = weights.astype(np.int64).sum(axis=3, keepdims=True)
        return scale_tokens(sums.reshape(*weights.shape[:3], -1), *reciprocal(total))

    def bound(self, *ends: Ends) -> int:
        """Return the larger of the bound of the sum, and that of the mean.

        With values of magnitude up to v a sum is at most ``v * total``. A total of b bits is below
        ``2**b``, and ``mantissa / 2**shift`` is within ``2**-(b + 1)`` of ``2**15 / total``: so the
        mean is at most ``v * (2**15 + 1 / 2)`` before it is rounded.
        """
        weights, values = ends
        if weights[0] < 0:
            raise InputError(f"weights of a mean must have levels of at least 0, not {weights[0]}")
        largest = max(abs(end) for end in values)
        mean = largest * ((1 << FRACTION_BITS) + 1) + 1
        return max(product_bound(self.terms, weights, values), mean)

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates for one image."""
        height, width, channels = self.shape(*inputs)
        return height * width * channels * self.terms
