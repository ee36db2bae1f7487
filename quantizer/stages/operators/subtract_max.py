"""Distances from the largest channel: what softmax's exponential takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend.functions import SHOWN
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["SubtractMax"]

FAR = -1e9
"""A distance whose exponential is 0."""


@dataclass(frozen=True)
class SubtractMax(StageOperator):
    """Each channel minus the largest one of its pixel; of those alone that the other sources,
    masks, leave: others are far below."""

    takes_residual: ClassVar[bool] = False
    reads_wide: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    most_read: ClassVar[int | None] = 1

    @classmethod
    def begin(cls, op: integer.SubtractMax) -> Beginning:
        """Return the distances."""
        return Beginning(cls())

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the distances."""
        scores, *masks = maps
        if not masks:
            return scores - scores.amax(1, keepdim=True)
        masked = torch.stack([mask.expand_as(scores) < SHOWN for mask in masks]).any(0)
        largest = scores.masked_fill(masked, -torch.inf).amax(1, keepdim=True)
        return (scores - largest).masked_fill(masked, FAR)

    def largest(self, *reaches: float) -> float:
        """Return twice the source's."""
        return 2 * reaches[0]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that all is left as it is."""
        return [(numbers, np.zeros_like(numbers)) for numbers in (out, *sources)]

    def lower(self, code: WeightCode | None) -> integer.SubtractMax:
        """Return the distances of integers."""
        return integer.SubtractMax()
