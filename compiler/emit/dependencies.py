"""Dependencies: which tile last used a word, and how a tile waits for it.

Tiles retire in order, so a wait is a count: ``lag`` earlier tiles at most may be unfinished.
"""

from collections.abc import Iterable
from operator import itemgetter

import numpy as np

from nupes.arch.isa import LAG_FREE
from nupes.compiler.place.layout import Run

__all__ = ["Latest", "lag_after"]


def lag_after(user: int, tiles: int) -> int:
    """Return how many of ``tiles`` tiles may be unfinished once tile ``user`` has retired."""
    return LAG_FREE if user < 0 else min(tiles - 1 - user, LAG_FREE - 1)


class Latest:
    """The tile that last wrote, or the one that last read, each word of the activation memory."""

    def __init__(self, words: int) -> None:
        self.tile = np.full(words, -1, np.int64)
        # What tiles have used since the words were last asked for: the same runs time and again.
        self.noted: dict[Run, int] = {}

    def lag(self, reads: Iterable[Run], tiles: int) -> int:
        """Return the lag of tile number ``tiles``, which reads some words."""
        return lag_after(self.newest(reads), tiles)

    def newest(self, reads: Iterable[Run]) -> int:
        """Return the tile that last used any of some words, -1 for none."""
        if self.noted:
            for (first, stop), tile in sorted(self.noted.items(), key=itemgetter(1)):
                self.tile[first:stop] = tile
            self.noted.clear()
        return max((int(self.tile[a:b].max(initial=-1)) for a, b in reads), default=-1)

    def note(self, uses: Iterable[Run], tile: int) -> None:
        """Note what a tile uses, the newest one of all so far."""
        for run in uses:
            self.noted[run] = tile
