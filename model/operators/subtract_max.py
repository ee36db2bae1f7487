"""Distances from a pixel's largest channel: the arguments of softmax's exponentials."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.arithmetic import Y_RANGE
from nupes.model.operators.operator import Operator
from nupes.model.tensor import Ends, Shape

__all__ = ["MASKED", "MASKED_DISTANCE", "SubtractMax"]

MASKED = Y_RANGE[0]
"""The result of a score that is minus infinity."""

MASKED_DISTANCE = -(1 << 16)
"""Its distance from the largest score: beyond that of any other one."""


@dataclass(frozen=True)
class SubtractMax(Operator):
    """Each channel minus the largest one of its pixel: at most 0.

    The encoder behind it holds the exponential, so that a layer of this operator makes softmax's
    numerators of scores. A ``y`` of -32768 is minus infinity, a masked score: its distance is
    -65536, as far as none of another one is, whatever the largest one.
    """

    kind: ClassVar[str] = "subtract_max"
    reads_wide: ClassVar[bool] = True

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the input."""
        return inputs[0]

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the distances."""
        source = levels[0].astype(np.int32)
        distances = source - source.max(axis=3, keepdims=True)
        return np.where(source == MASKED, MASKED_DISTANCE, distances).astype(np.int32)

    def bound(self, *ends: Ends) -> int:
        """Return the distance of the ends, or the larger one's magnitude if that is more; that of
        minus infinity if it may occur."""
        ((low, high),) = ends
        masked = -MASKED_DISTANCE if low <= MASKED else 0
        return max(high - low, abs(low), abs(high), masked)
