"""Selection of channels and pixels: identities that carry an addition, and shortcuts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(StageOperator):
    """Channel ``c`` is the source's channel ``c - offset``, or 0 where there is none; of the pixels
    each ``stride``-th."""

    channels: int
    offset: int = 0
    stride: tuple[int, int] = (1, 1)

    copies = True

    @classmethod
    def begin(cls, op: integer.Select) -> Beginning:
        """Return the selection."""
        return Beginning(cls(op.channels, op.offset, op.stride))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the selected channels and pixels."""
        x = maps[0][:, :, :: self.stride[0], :: self.stride[1]]
        behind = self.channels - self.offset - x.shape[1]
        return F.pad(x, (0, 0, 0, 0, self.offset, behind))

    def after(self, inner: StageOperator) -> "Select | None":
        """Return one selection for two."""
        if not isinstance(inner, Select):
            return None
        stride = (inner.stride[0] * self.stride[0], inner.stride[1] * self.stride[1])
        return Select(self.channels, inner.offset + self.offset, stride)

    def lower_bound(self, *lows: float) -> float:
        """Return the source's bound, or 0."""
        return min(lows[0], 0.0)

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is one of the source."""
        first, last = max(self.offset, 0), min(self.offset + len(sources[0]), self.channels)
        return [(out[first:last], sources[0][first - self.offset : last - self.offset])]

    def lower(self, code: WeightCode | None) -> integer.Select:
        """Return the selection of levels."""
        return integer.Select(self.channels, self.offset, self.stride)
