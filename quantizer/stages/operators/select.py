"""Selection of channels and pixels: identities that carry an addition, slices, and shortcuts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

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

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(StageOperator):
    """Channel ``n`` is the source's channel ``channels[n]``, or 0 where that is -1; of the padded
    or cropped pixels each ``stride``-th."""

    channels: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    copies = True

    @classmethod
    def begin(cls, op: integer.Select) -> Beginning:
        """Return the selection."""
        return Beginning(cls(op.channels, op.stride, op.padding))

    @property
    def numbers(self) -> np.ndarray:
        """The channels, int64 (n,)."""
        return np.array(self.channels)

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the selected channels and pixels."""
        x = pad_map(maps[0], self.padding)[:, :, :: self.stride[0], :: self.stride[1]]
        numbers = torch.from_numpy(self.numbers).to(x.device)
        taken = x.index_select(1, numbers.clamp(min=0))
        return taken.masked_fill((numbers < 0).reshape(-1, 1, 1), 0) if min(numbers) < 0 else taken

    def after(self, inner: "Select") -> "Select | None":
        """Return one selection for two, where one does: zeros around a crop are none of the map."""
        pads = max(self.padding) > 0
        if pads and (inner.stride != (1, 1) or min(inner.padding) < 0):
            return None
        channels = tuple(-1 if n < 0 else inner.channels[n] for n in self.channels)
        stride = inner.stride[0] * self.stride[0], inner.stride[1] * self.stride[1]
        (y, x), (top, bottom, left, right) = inner.stride, self.padding
        padding = add_padding(inner.padding, (y * top, y * bottom, x * left, x * right))
        return Select(channels, stride, padding)

    def pad(self, padding: Padding, low: float) -> "Select":
        """Return the selection with more padding, or less cropping."""
        return replace(self, padding=add_padding(self.padding, padding))

    def lower_bound(self, *lows: float) -> float:
        """Return the source's bound, or 0."""
        return min(lows[0], 0.0)

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is one of the source."""
        some = self.numbers >= 0
        return [(out[some], sources[0][self.numbers[some]])]

    def lower(self, code: WeightCode | None) -> integer.Select:
        """Return the selection of levels."""
        return integer.Select(self.channels, self.stride, self.padding)
