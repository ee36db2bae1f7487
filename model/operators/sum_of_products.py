"""Sum of elementwise products of stored maps."""

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import LARGEST, Operator, is_integer
from nupes.model.tensor import Ends, Shape

__all__ = ["SumOfProducts"]


@dataclass(frozen=True)
class SumOfProducts(Operator):
    """The sum over pairs of inputs, a factor and a whole, of the level of a channel of the factor
    times that of the whole; the sum is requantized once.

    The result has the shape of every whole. Its channel ``c`` takes channel ``channels[i][c]`` of
    factor ``i``, whose height and width may be 1: it then serves all rows or columns. A rotation of
    x is the pairs (x, cosines) and (x, sines), the second one with the other channel of each pair.
    """

    channels: tuple[tuple[int, ...], ...]

    kind: ClassVar[str] = "sum_of_products"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = None

    def check(self) -> None:
        """Refuse channels out of their range."""
        for channel in chain.from_iterable(self.channels):
            if not is_integer(channel) or not 0 <= channel < LARGEST:
                raise InputError(
                    f"channels of a factor must be integers in 0..{LARGEST - 1}, not {channel}"
                )

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the wholes; refuse inputs that are no such pairs."""
        factors, wholes = inputs[::2], inputs[1::2]
        if len(inputs) != 2 * len(self.channels):
            raise InputError(
                f"a sum of {len(self.channels)} products must read {2 * len(self.channels)} "
                f"tensors, not {len(inputs)}"
            )
        whole = wholes[0]
        if any(shape != whole for shape in wholes):
            raise InputError(f"wholes of a sum of products must have one shape, not {wholes}")
        for factor, channels in zip(factors, self.channels, strict=True):
            if any(n not in (1, full) for n, full in zip(factor[:2], whole[:2], strict=True)):
                raise InputError(
                    f"a factor must have the height and width of its whole, {whole}, or 1, not "
                    f"{factor}"
                )
            if len(channels) != whole[2] or max(channels) >= factor[2]:
                raise InputError(
                    f"channels of a factor must be {whole[2]} of its {factor[2]}, by number, not "
                    f"{channels}"
                )
        return whole

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the sums of products of levels."""
        pairs = zip(levels[::2], levels[1::2], self.channels, strict=True)
        return sum(
            (
                factor.take(channels, axis=3).astype(np.int32) * whole.astype(np.int32)
                for factor, whole, channels in pairs
            ),
            np.zeros(levels[1].shape, np.int32),
        )

    def bound(self, *ends: Ends) -> int:
        """Return the sum over pairs of the products of the largest magnitudes."""
        largest = [max(abs(low), abs(high)) for low, high in ends]
        return sum(a * b for a, b in zip(largest[::2], largest[1::2], strict=True))
