"""Distances from a pixel's largest channel: the arguments of softmax's exponentials."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.operators.operator import Operator
from nupes.model.tensor import Ends, Shape

__all__ = ["SubtractMax"]


@dataclass(frozen=True)
class SubtractMax(Operator):
    """Each channel minus the largest one of its pixel: at most 0, and 0 once at least.

    The encoder behind it holds the exponential, so that a layer of this operator makes softmax's
    numerators of scores.
    """

    kind: ClassVar[str] = "subtract_max"
    reads_wide: ClassVar[bool] = True

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the input."""
        return inputs[0]

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the distances."""
        source = levels[0].astype(np.int32)
        return source - source.max(axis=3, keepdims=True)

    def bound(self, *ends: Ends) -> int:
        """Return the distance of the ends, or the larger one's magnitude if that is more."""
        ((low, high),) = ends
        return max(high - low, abs(low), abs(high))
