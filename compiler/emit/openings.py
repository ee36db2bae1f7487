"""Openings: where the stream of a pass over a block begins, and what it waits for; several columns
share one."""

from collections.abc import Iterable

from nupes.compiler.emit.dependencies import Latest
from nupes.compiler.lowering.passes import MapStream, Pass, PatchStream
from nupes.compiler.lowering.walks import Start, Walk, line_walk
from nupes.compiler.place.layout import Run

__all__ = ["Openings", "patch_run"]

Opening = tuple[Walk, Start, tuple[Run, ...], int]
"""The walk over a block, where it begins, the words that it reads, and the tile that last wrote
any of them."""


class Openings:
    """The openings of the passes over a block, made once for each stream.

    ``writers`` are the tiles that wrote each word. What is noted as written must not be read: the
    openings are forgotten then.
    """

    def __init__(self, writers: Latest) -> None:
        self.writers = writers
        self.made: dict[tuple[MapStream, int, int], Opening] = {}
        self.first = self.stop = 0  # around all that is read

    def clear(self) -> None:
        """Begin with the next block."""
        self.made.clear()
        self.first = self.stop = 0

    def of(self, item: Pass, first: int, count: int) -> Opening:
        """Return the opening of a pass over a block of ``count`` pixels from ``first`` on; patches
        are chased, and wait for nothing."""
        stream = item.stream
        if isinstance(stream, PatchStream):
            run, behind = patch_run(stream, first), stream.layout.lower(first) * stream.joined
            return line_walk(count, -behind), Start(run[0] + behind, run[0] + behind), (), -1
        key = stream, count, item.warm_up
        if key not in self.made:
            reads = reads_of(stream, first, count, item.warm_up)
            layout, walk = stream.layout, stream.walk
            start = walk.start(layout, stream.plane, stream.group, stream.y, stream.x, first)
            self.made[key] = walk, start, reads, self.writers.newest(reads)
            self.surround(reads)
        return self.made[key]

    def surround(self, reads: Iterable[Run]) -> None:
        """Note what is read."""
        for first, stop in reads:
            self.first = min(self.first, first) if self.stop else first
            self.stop = max(self.stop, stop)

    def note(self, writes: Iterable[Run]) -> None:
        """Note what the newest tile writes."""
        if any(first < self.stop and stop > self.first for first, stop in writes):
            self.clear()


def reads_of(stream: MapStream, first: int, count: int, warm_up: int) -> tuple[Run, ...]:
    """Return the words that a pass over a block waits for."""
    rows = stream.walk.rows(stream.y, first, count, warm_up)
    planes = range(stream.plane - stream.joined, stream.plane + 1)
    return tuple(stream.layout.row_run(plane, stream.group, *rows) for plane in planes)


def patch_run(stream: PatchStream, first: int) -> Run:
    """Return where the words of a block of patches lie, those of both planes if they are joined."""
    layout = stream.layout
    address = layout.address(stream.plane, stream.word, first)
    return address, address + layout.size(first) + layout.lower(first) * stream.joined
