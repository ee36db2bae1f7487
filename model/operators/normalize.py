"""Normalization of each pixel's channels: LayerNorm, RMSNorm."""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import Operator, is_integer
from nupes.model.tensor import Ends, Shape
from nupes.model.token_stage import (
    FRACTION_BITS,
    MOST_CHANNELS,
    moments,
    reciprocal_root,
    scale_tokens,
)

__all__ = ["Normalize"]


@dataclass(frozen=True)
class Normalize(Operator):
    """Each pixel's channels over their root mean square, their mean subtracted first if
    ``centered``: ``2**15 * (n * x - S1) / sqrt(n * S2 - S1**2 + epsilon)``.

    S1 is the sum of the channels, 0 if not ``centered``, and S2 that of their squares. ``epsilon``
    is in units of ``n**2`` squared levels, in 1..n**2 * 2**30 - 1.
    """

    channels: int
    centered: bool
    epsilon: int

    kind: ClassVar[str] = "normalize"
    reads_wide: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse numbers out of their ranges."""
        if not is_integer(self.channels) or not 1 <= self.channels <= MOST_CHANNELS:
            raise InputError(
                f"normalized channels must be an integer in 1..{MOST_CHANNELS}, not {self.channels}"
            )
        most = (self.channels**2 << 30) - 1
        if not is_integer(self.epsilon) or not 1 <= self.epsilon <= most:
            raise InputError(f"epsilon must be an integer in 1..{most}, not {self.epsilon}")

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, n) of the input; refuse other numbers of channels."""
        ((_, _, channels),) = inputs
        if channels != self.channels:
            raise InputError(f"a normalization must be of {self.channels} channels, not {channels}")
        return inputs[0]

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the normalized channels, with 15 bits behind the binary point."""
        x = levels[0].astype(np.int64)
        first, variance = moments(x, self.centered, self.epsilon)
        return scale_tokens(self.channels * x - first, *reciprocal_root(variance))

    def bound(self, *ends: Ends) -> int:
        """Return the larger of the bounds of ``n * x``, ``n * x - S1``, and the result.

        ``(n * x - S1)**2 <= n * (n * S2 - S1**2)``, since a deviation's square is at most the sum
        of all; so the quotient is at most ``sqrt(n)``. Bits that are dropped of D make its root
        smaller by less than 2**-28 of it, the mantissa is rounded down, and rounding adds 1/2: the
        result is at most ``2**15 * sqrt(n) + 1``.
        """
        ((low, high),) = ends
        largest = max(abs(low), abs(high))
        spread = high - low if self.centered else largest
        result = isqrt(self.channels << (2 * FRACTION_BITS)) + 2
        return max(self.channels * max(largest, spread), result)

    def words(self, *inputs: Shape) -> str:
        """Return which normalization it is."""
        return "layer norm" if self.centered else "rms norm"
