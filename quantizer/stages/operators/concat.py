"""Concatenation along channels: every part is stored in the codes of the whole."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.frontend import graph
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Concat"]


@dataclass(frozen=True)
class Concat(StageOperator):
    """The channels of all sources, one source after another."""

    accumulates = False
    copies = True

    @classmethod
    def begin(cls, op: graph.Concat) -> Beginning:
        """Return the concatenation."""
        return Beginning(cls())

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the maps side by side."""
        return torch.cat(maps, 1)

    def lower_bound(self, *lows: float) -> float:
        """Return the least bound."""
        return min(lows)

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is one of a source."""
        return [(out, np.concatenate(sources))]

    def lower(self, code: WeightCode | None) -> integer.Operator:
        """Return the concatenation of codes."""
        return integer.Concat()
