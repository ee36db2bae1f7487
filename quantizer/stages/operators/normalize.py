"""Normalization of each pixel's channels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from nupes.model import operators as integer
from nupes.model.token_stage import FRACTION_BITS
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Normalize"]

EPSILON_BITS = 15
"""Bits of the root of an ``epsilon``, in units of the source."""


@dataclass(frozen=True)
class Normalize(StageOperator):
    """Each pixel's channels over their root mean square, their mean subtracted first if
    ``centered``; ``scale`` is the real value of one unit of the source."""

    channels: int
    centered: bool
    epsilon: float
    scale: float = 1.0

    takes_residual: ClassVar[bool] = False
    reads_wide: ClassVar[bool] = True
    tokens: ClassVar[bool] = True
    any_gain: ClassVar[bool] = True
    gain_scales: ClassVar[bool] = True

    @classmethod
    def begin(cls, op: graph.Normalize) -> Beginning:
        """Return the normalization."""
        return Beginning(cls(op.channels, op.centered, op.epsilon))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the normalized channels."""
        values, power = self.moments(*maps)
        return values / power.sqrt()

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels less their mean, if ``centered``, and their mean square, to which
        ``epsilon`` is added."""
        if self.centered:
            x = x - x.mean(1, keepdim=True)
        return x, x.square().mean(1, keepdim=True) + self.epsilon

    def largest(self, *reaches: float) -> float:
        """Return the root of the channels' number, the most that one of them can be."""
        return self.channels**0.5

    def rounding(self, *maps: Tensor) -> Tensor:
        """Return one over the root mean square of each pixel: what is nearly nothing, or nearly one
        number, is made large with its roundings."""
        return self.moments(*maps)[1].rsqrt()

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that the source is left as it is; the gain takes up what scales the result."""
        return [(numbers, np.zeros_like(numbers)) for numbers in sources]

    def at_scales(self, *scales: float) -> Self:
        """Return the normalization of a source of this scale, with the nearest ``epsilon`` that
        integers can say."""
        unit = (scales[0] / self.channels) ** 2
        epsilon = max(1.0, float(np.rint(self.epsilon / unit))) * unit
        return replace(self, scale=scales[0], epsilon=epsilon)

    @property
    def least_scale(self) -> float:
        """The unit of which ``epsilon`` is the square of no more than 15 bits."""
        return self.epsilon**0.5 * 2.0**-EPSILON_BITS

    def lower(self, code: WeightCode | None) -> integer.Normalize:
        """Return the normalization of integers: ``epsilon`` in units of them, at least 1."""
        squared = self.channels**2
        most = (squared << 2 * EPSILON_BITS) - 1
        epsilon = int(np.rint(min(squared * self.epsilon / self.scale**2, float(most))))
        return integer.Normalize(self.channels, self.centered, min(max(1, epsilon), most))

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> float:
        """Return the last bit behind the binary point."""
        return 2.0**-FRACTION_BITS
