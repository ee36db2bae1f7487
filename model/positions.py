"""Positions of tokens that are found by which ids are padding: rows of a table of their own."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Positions"]


@dataclass(frozen=True)
class Positions:
    """The position of an id is ``first`` plus how many ids before it are not ``padding``, and
    ``filler`` that of padding itself."""

    padding: int
    first: int
    filler: int

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions (b, t) int64 of integers (b, t)."""
        shown = np.asarray(ids) != self.padding
        places = self.first - 1 + np.cumsum(shown, axis=1, dtype=np.int64)
        return np.where(shown, places, self.filler)

    def largest(self, tokens: int) -> int:
        """Return the largest position that one of so many ids can have."""
        return max(self.first + tokens - 1, self.filler)
