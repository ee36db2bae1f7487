"""Mosaic: pieces of maps, stored in the codes of the whole."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nupes.model import operators as integer
from nupes.model.operators import Piece
from nupes.quantizer.codes.decisions import WeightCode
from nupes.quantizer.stages.operators.base import Beginning, StageOperator, Tie

__all__ = ["Mosaic"]


@dataclass(frozen=True)
class Mosaic(StageOperator):
    """A map of ``size`` (h, w, c) made of pieces of the sources."""

    size: tuple[int, int, int]
    pieces: tuple[Piece, ...]

    accumulates = False
    copies = True

    @classmethod
    def begin(cls, op: integer.Mosaic) -> Beginning:
        """Return the mosaic."""
        return Beginning(cls(op.size, op.pieces))

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the pieces at their places."""
        height, width, channels = self.size
        out = maps[0].new_empty(len(maps[0]), channels, height, width)
        for piece in self.pieces:
            ys, xs, cs = (slice(r.start, r.stop, r.step) for r in map(piece.places, range(3)))
            part = maps[piece.source]
            for dim, axis in ((1, 2), (2, 0), (3, 1)):
                origins = torch.from_numpy(piece.origins(axis)).to(part.device)
                part = part.index_select(dim, origins)
            out[:, cs, ys, xs] = part
        return out

    def lower_bound(self, *lows: float) -> float:
        """Return the least bound."""
        return min(lows)

    def largest(self, *reaches: float) -> float:
        """Return the largest magnitude of a source."""
        return max(reaches)

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return that each channel is one of a source."""
        return [(out[p.places(2)], sources[p.source][p.origins(2)]) for p in self.pieces]

    def lower(self, code: WeightCode | None) -> integer.Mosaic:
        """Return the mosaic of codes."""
        return integer.Mosaic(self.size, self.pieces)
