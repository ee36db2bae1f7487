"""Weighted means of pixels: values of attention, by softmax's numerators."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.model.token_stage import FRACTION_BITS
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["WeightedMean"]


@dataclass(frozen=True)
class WeightedMean(StageOperator):
    """For each pixel of the first source, whose channels are weights, the mean of the second one's
    pixels."""

    terms: int

    matrix: ClassVar[int | None] = 1
    tokens: ClassVar[bool] = True

    @classmethod
    def begin(cls, op: integer.WeightedMean) -> Beginning:
        """Return the means."""
        return Beginning(cls(op.terms))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the means."""
        weights, values = maps
        total = weights.sum(1, keepdim=True)
        sums = torch.matmul(values.flatten(2), weights.flatten(2))
        return sums.unflatten(2, weights.shape[2:]) / total

    def lower_bound(self, *lows: float) -> float:
        """Return that of the values; weights that may be negative leave none."""
        return lows[1] if lows[0] >= 0 else -np.inf

    def largest(self, *reaches: float) -> float:
        """Return that of the values, the more the larger the weights are."""
        return reaches[1] * max(1.0, reaches[0])

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel grows with one of the values, the weights left as they are."""
        weights, values = sources
        return [(out, values), (weights, np.zeros_like(weights))]

    def lower(self, code: WeightCode | None) -> integer.WeightedMean:
        """Return the means of levels."""
        return integer.WeightedMean(self.terms)

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> float:
        """Return the scale of the values, of a mean's last bit."""
        return scales[1] * 2.0**-FRACTION_BITS
