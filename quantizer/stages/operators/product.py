"""Products of two computed maps: gates, and functions that are written as products."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Product"]


@dataclass(frozen=True)
class Product(StageOperator):
    """The first source, whose sizes may be 1, times the second one, whose shape the result has."""

    takes_residual = False
    least_bits: ClassVar[int] = 8
    gain_scales: ClassVar[bool] = True

    @classmethod
    def begin(cls, op: graph.Product) -> Beginning:
        """Return the product."""
        return Beginning(cls())

    def takes_part(self, index: int) -> bool:
        """Return that the first source may be, the second one is read where a residual is."""
        return index == 0

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the products of values."""
        factor, whole = maps
        return factor * whole

    def lower_bound(self, *lows: float) -> float:
        """Return the product of bounds that are not negative; other products have none."""
        return lows[0] * lows[1] if min(lows) >= 0 else -np.inf

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that the first source is left as it is; the gain takes up all other factors."""
        factor, _ = sources
        return [(factor, np.zeros_like(factor))]

    def kept_factors(self, *sources: np.ndarray) -> np.ndarray:
        """Return the factors of the second source."""
        return sources[1]

    def lower(self, code: WeightCode | None) -> integer.Operator:
        """Return the product of levels."""
        return integer.Product()

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> float:
        """Return the product of both scales."""
        return scales[0] * scales[1]
