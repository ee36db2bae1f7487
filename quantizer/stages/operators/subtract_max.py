"""Distances from the largest channel: what softmax's exponential takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["SubtractMax"]


@dataclass(frozen=True)
class SubtractMax(StageOperator):
    """Each channel minus the largest one of its pixel."""

    takes_residual: ClassVar[bool] = False
    reads_wide: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    @classmethod
    def begin(cls, op: integer.SubtractMax) -> Beginning:
        """Return the distances."""
        return Beginning(cls())

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the distances."""
        return maps[0] - maps[0].amax(1, keepdim=True)

    def largest(self, *reaches: float) -> float:
        """Return twice the source's."""
        return 2 * reaches[0]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that all is left as it is."""
        return [(numbers, np.zeros_like(numbers)) for numbers in (out, *sources)]

    def lower(self, code: WeightCode | None) -> integer.SubtractMax:
        """Return the distances of integers."""
        return integer.SubtractMax()
