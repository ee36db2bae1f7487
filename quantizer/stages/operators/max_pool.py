"""Max pooling: codes are sorted like the values that they stand for, so it works on codes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model import operators as integer
from nupes.model.operators import Padding
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import (
    Beginning,
    StageOperator,
    Tie,
    add_padding,
    pad_map,
)

__all__ = ["MaxPool"]


@dataclass(frozen=True)
class MaxPool(StageOperator):
    """Maximum over a window; padding is skipped."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    accumulates = False
    copies = True

    @classmethod
    def begin(cls, op: integer.MaxPool) -> Beginning:
        """Return the pool."""
        return Beginning(cls(op.kernel, op.stride, op.padding, op.dilation))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the largest values."""
        padded = pad_map(maps[0], self.padding, -torch.inf)
        return F.max_pool2d(padded, self.kernel, self.stride, 0, self.dilation)

    def takes_part(self, index: int) -> bool:
        """Return that words are read as a whole."""
        return False

    def pad(self, padding: Padding, low: float) -> "MaxPool | None":
        """Return the pool with more padding: zeros may be skipped where no value is below them, and
        where each window reaches the map."""
        joined = add_padding(self.padding, padding)
        reach = [self.dilation[axis] * (self.kernel[axis] - 1) for axis in (0, 0, 1, 1)]
        if low < 0 or any(side > most for side, most in zip(joined, reach, strict=True)):
            return None
        return replace(self, padding=joined)

    def lower_bound(self, *lows: float) -> float:
        """Return the source's bound."""
        return lows[0]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is one of the source."""
        return [(out, sources[0])]

    def lower(self, code: WeightCode | None) -> integer.MaxPool:
        """Return the maximum of codes."""
        return integer.MaxPool(self.kernel, self.stride, self.padding, self.dilation)
