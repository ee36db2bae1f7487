"""Convolution, linear layers included: the operator that has weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.operators import Conv, Padding, TransposedConv
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.base import (
    Beginning,
    StageOperator,
    Tie,
    add_padding,
    pad_map,
)

__all__ = ["Convolution"]


@dataclass(frozen=True, eq=False)
class Convolution(StageOperator):
    """``kernel`` (n, c // groups, kh, kw) is a view of the module's weights where it can be, as a
    copy in float64 of a large network fills the memory; its ``factors`` (n,) float64 are those of
    the affines that follow. The map's pixels lie ``stretch`` apart."""

    kernel: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    stretch: tuple[int, int] = (1, 1)
    factors: np.ndarray | None = None

    @property
    def weight(self) -> np.ndarray:
        """Weights (n, c // groups, kh, kw), float64, computed anew."""
        weight = np.asarray(self.kernel, np.float64)
        return weight if self.factors is None else weight * self.factors.reshape(-1, 1, 1, 1)

    @classmethod
    def begin(cls, op: graph.Convolution) -> Beginning:
        """Return the convolution and its bias."""
        conv = cls(op.weight, op.stride, op.padding, op.dilation, op.groups, op.stretch)
        return Beginning(conv, bias=op.bias)

    @classmethod
    def of_channels(cls, scale: np.ndarray, channels: int) -> "Convolution":
        """Return the depthwise 1x1 convolution that multiplies channels by numbers, each channel by
        as many."""
        return cls(scale.reshape(-1, 1, 1, 1), groups=channels)

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the convolution."""
        (x,) = maps
        if weight is None:
            weight = torch.tensor(self.weight, dtype=x.dtype, device=x.device)
        return F.conv2d(self.read(x), weight, None, self.stride, 0, self.dilation, self.groups)

    def read(self, x: Tensor) -> Tensor:
        """Return the map that the windows lie in: stretched and padded."""
        if self.stretch != (1, 1):
            batch, channels, height, width = x.shape
            sizes = ((height - 1) * self.stretch[0] + 1, (width - 1) * self.stretch[1] + 1)
            spread = x.new_zeros(batch, channels, *sizes)
            spread[:, :, :: self.stretch[0], :: self.stretch[1]] = x
            x = spread
        return pad_map(x, self.padding)

    def pad(self, padding: Padding, low: float) -> "Convolution":
        """Return the convolution with more padding."""
        (y, x), (top, bottom, left, right) = self.stretch, padding
        more = (y * top, y * bottom, x * left, x * right)
        return replace(self, padding=add_padding(self.padding, more))

    def scale_output(self, factors: np.ndarray) -> "Convolution":
        """Return the convolution whose output channels are multiplied by factors (n,), or by
        several in turn."""
        times = len(factors) // len(self.kernel)
        if times == 1 and self.factors is None:
            return replace(self, factors=factors)
        return replace(self, kernel=self.weight.repeat(times, axis=0), factors=factors)

    def take_output(self, channels: np.ndarray) -> "Convolution | None":
        """Return the convolution that gives some output channels, by number, where one does."""
        if self.groups != 1:
            return None
        factors = None if self.factors is None else self.factors[channels]
        return replace(self, kernel=self.kernel[channels], factors=factors)

    def largest(self, *reaches: float) -> np.ndarray:
        """Return the sums of the weights' magnitudes times that of the source."""
        return np.abs(self.weight).sum(axis=(1, 2, 3)) * reaches[0]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return no ties: weights take up any factors of what is read and given."""
        return []

    def rescale(self, out: np.ndarray, *sources: np.ndarray) -> "Convolution":
        """Return the convolution whose weights take up the factors."""
        (source,) = sources
        shape, groups = self.kernel.shape, self.groups
        weight = self.weight.reshape(groups, shape[0] // groups, *shape[1:])
        weight = (weight * source.reshape(groups, 1, -1, 1, 1)).reshape(shape)
        return replace(self, kernel=weight / out.reshape(-1, 1, 1, 1), factors=None)

    def lower(self, code: WeightCode | None) -> Conv:
        """Return the convolution of weight codes."""
        assert code is not None
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        if self.stretch != (1, 1):
            return TransposedConv(
                code.codes, code.codebook, code.scale, *geometry, stretch=self.stretch
            )
        return Conv(code.codes, code.codebook, code.scale, *geometry)

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> np.ndarray:
        """Return the product of both scales for each output channel."""
        assert code is not None
        return code.scale * scales[0]
