"""Products of two computed tensors as matrices: scores of attention."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Matmul"]


@dataclass(frozen=True)
class Matmul(StageOperator):
    """The pixels of the first source times those of the second one, as columns if ``transposed``,
    else as rows."""

    terms: int
    transposed: bool

    matrix: ClassVar[int | None] = 1

    @classmethod
    def begin(cls, op: integer.Matmul) -> Beginning:
        """Return the product."""
        return Beginning(cls(op.terms, op.transposed))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the sums of products."""
        source, other = maps
        matrix = other.flatten(2)
        if self.transposed:
            matrix = matrix.transpose(1, 2)
        return torch.matmul(matrix, source.flatten(2)).unflatten(2, source.shape[2:])

    def largest(self, *reaches: float) -> float:
        """Return that of a sum of the largest products."""
        return self.terms * reaches[0] * reaches[1]

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that the result is left as it is, and a matrix of rows and what it is multiplied
        with as well."""
        kept = (out,) if self.transposed else (out, *sources)
        return [(numbers, np.zeros_like(numbers)) for numbers in kept]

    def opposites(self, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that what one column is multiplied by, the other one is divided by."""
        source, other = sources
        return [(source, other)] if self.transposed else []

    def lower(self, code: WeightCode | None) -> integer.Matmul:
        """Return the product of levels."""
        return integer.Matmul(self.terms, self.transposed)

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> float:
        """Return the product of both scales."""
        return scales[0] * scales[1]
