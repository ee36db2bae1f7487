"""Arrival of the input: its LOADs, and where they stand between the tiles that read it."""

from collections.abc import Iterator

from nupes.arch.isa import Destination
from nupes.compiler.emit.instructions import Load
from nupes.compiler.place.layout import blocks

__all__ = ["TILES_BEHIND", "Arrival", "input_loads"]

MOST_PAYLOAD = (1 << 16) - 1

TILES_BEHIND = 1
"""Tiles between one that chases a run and the last LOAD of that run."""


def input_loads(address: int, words: int) -> Iterator[Load]:
    """Yield the holes for ``words`` input words, to be written from ``address`` on."""
    for first, count in blocks(words, MOST_PAYLOAD):
        yield Load(destination=Destination.ACTIVATION, address=address + first, words=count)


class Arrival:
    """The packed input's way into memory: each run right behind the first tile that reads it.

    Only the run's first word comes at once, the others after the next tile (``TILES_BEHIND``): so
    that one's weights need not wait until the whole run is through the port.
    """

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.late = (0, 0)  # first address and words of the run that is not through yet

    def follow(self, run: int, count: int) -> Iterator[Load]:
        """Yield what comes behind a tile that reads the run of ``count`` words at ``run``."""
        address, words = self.late
        self.late = (0, 0)
        if run not in self.seen:
            self.seen.add(run)
            self.late = (run + 1, count - 1)
            # Runs follow one another, so the rest of the last one and this word are one LOAD.
            address, words = (address, words + 1) if words else (run, 1)
        yield from input_loads(address, words)

    def flush(self) -> Iterator[Load]:
        """Yield what is not through yet."""
        address, words = self.late
        self.late = (0, 0)
        yield from input_loads(address, words)
