"""Sums of products: rotary position embeddings, and other sums of products of two maps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["SumOfProducts"]


@dataclass(frozen=True)
class SumOfProducts(StageOperator):
    """The sum over pairs of sources, a factor and a whole, of the factor's ``channels`` of the pair
    times the whole; a factor may have a height and width of 1."""

    channels: tuple[tuple[int, ...], ...]

    takes_residual = False
    gain_scales: ClassVar[bool] = True
    code_groups: ClassVar[int] = 2
    least_bits: ClassVar[int] = 8

    @classmethod
    def begin(cls, op: integer.SumOfProducts) -> Beginning:
        """Return the sum."""
        return Beginning(cls(op.channels))

    def takes_part(self, index: int) -> bool:
        """Return that factors may be, wholes are read where a residual is."""
        return index % 2 == 0

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the sums of products of values."""
        pairs = zip(maps[::2], maps[1::2], self.channels, strict=True)
        products = (
            factor.index_select(1, torch.tensor(channels, device=factor.device)) * whole
            for factor, whole, channels in pairs
        )
        return torch.stack(list(products)).sum(0)

    def lower_bound(self, *lows: float) -> float:
        """Return the sum of products of bounds that are not negative; other sums have none."""
        return self.largest(*lows) if min(lows) >= 0 else -np.inf

    def largest(self, *reaches: float) -> float:
        """Return the sum of the largest products."""
        return sum(a * b for a, b in zip(reaches[::2], reaches[1::2], strict=True))

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that all sources are left as they are; the gain takes up what scales the sum."""
        return [(numbers, np.zeros_like(numbers)) for numbers in sources]

    def lower(self, code: WeightCode | None) -> integer.SumOfProducts:
        """Return the sum of products of levels."""
        return integer.SumOfProducts(self.channels)

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> float:
        """Return the product of the scales of all factors and of all wholes."""
        return scales[0] * scales[1]
