"""Average pooling: a sum over a window; the divisor is in the stage's gain."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nupes.model import operators as integer
from nupes.model.operators import Padding
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.base import (
    Beginning,
    StageOperator,
    Tie,
    add_padding,
    pad_map,
)

__all__ = ["AveragePool"]


@dataclass(frozen=True)
class AveragePool(StageOperator):
    """Sum over a window; padding counts as 0."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)

    @classmethod
    def begin(cls, op: graph.Pool) -> Beginning:
        """Return the sum, and the divisor as gain."""
        return Beginning(cls(op.op.kernel, op.op.stride, op.op.padding), gain=op.gain)

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the sums."""
        padded = pad_map(maps[0], self.padding)
        return F.avg_pool2d(padded, self.kernel, self.stride, divisor_override=1)

    def pad(self, padding: Padding, low: float) -> "AveragePool":
        """Return the pool with more padding."""
        return replace(self, padding=add_padding(self.padding, padding))

    def lower_bound(self, *lows: float) -> float:
        """Return the sum of as many lowest values, or zeros, as there are taps."""
        low = min(lows[0], 0.0) if max(self.padding) > 0 else lows[0]
        return low * self.kernel[0] * self.kernel[1]

    def largest(self, *reaches: float) -> float:
        """Return the source's magnitude times the taps."""
        return reaches[0] * self.kernel[0] * self.kernel[1]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is a sum of one channel of the source."""
        return [(out, sources[0])]

    def lower(self, code: WeightCode | None) -> integer.AveragePool:
        """Return the sum of levels."""
        return integer.AveragePool(self.kernel, self.stride, self.padding)
