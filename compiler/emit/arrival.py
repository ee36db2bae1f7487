"""Arrival of the input: its LOADs, and where they stand between the tiles that read it."""

from collections.abc import Iterator

from nupes.arch.isa import LAG_FREE, Destination
from nupes.compiler.emit.dependencies import Latest, lag_after
from nupes.compiler.emit.instructions import Load
from nupes.compiler.lowering.passes import ArrayWork, MapStream
from nupes.compiler.place.layout import Run, TensorLayout, blocks

__all__ = ["TILES_BEHIND", "Arrival", "Lines", "input_loads"]

MOST_PAYLOAD = (1 << 16) - 1

TILES_BEHIND = 1
"""Tiles between one that chases a run and the last LOAD of that run."""


def input_loads(
    run: Run, image: int, lag: int = LAG_FREE, user: int = -1, due: int = -1
) -> Iterator[Load]:
    """Yield the holes for the input words of a run of addresses; the rest is that of a ``Load``."""
    for first, count in blocks(run[1] - run[0], MOST_PAYLOAD):
        yield Load(
            destination=Destination.ACTIVATION,
            address=run[0] + first,
            words=count,
            lag=lag,
            user=user,
            due=due,
            image=image,
        )


class Arrival:
    """The packed input's way into memory: each run right behind the first tile that reads it.

    Only what the run's first pixel needs comes at once, the other words after the next tile
    (``TILES_BEHIND``): so that one's weights need not wait until the whole run is through the port.

    Runs lie one behind the other, until one overwrites an earlier block. Its first word comes ahead
    of its tile: that makes the write pointer, which tiles chase, fall. So no tile may chase what
    lies above it any more, and every LOAD waits for the tiles that use what it overwrites. So it is
    with the next image of a batch.
    """

    def __init__(self, users: Latest) -> None:
        self.users = users  # the last tile that reads or writes each word
        self.image = 0
        self.block = -1  # the first pixel of the block that arrives
        self.pointer = 0  # behind the last word so far: the write pointer, in the program's order
        self.begun = 0  # behind what comes at once behind the present tile
        self.stop = 0  # behind the last run that a tile reads
        self.user = -1  # the last tile that must retire before the next LOAD
        self.chaser = -1  # the last tile that chases

    def begin(self, image: int) -> None:
        """Begin with the first run of an image."""
        self.image, self.block = image, -1

    def precede(self, block: int, run: Run, tile: int, needed: int = 1) -> Iterator[Load]:
        """Yield what comes before tile number ``tile``, the next one, which reads a run of the
        block from pixel ``block`` on, the first ``needed`` words for its first pixel."""
        first, stop = run
        self.begun = self.stop
        if block != self.block or first >= self.stop:
            falls = first < self.stop
            if falls:
                yield from self.flush(tile)
            if first != self.stop:
                self.pointer = first
            self.block, self.begun, self.stop = block, first + needed, stop
            self.user = max(self.user, self.users.newest([run]))
            if falls:
                self.user = max(self.user, self.chaser)
                yield from self.follow(tile)
        if self.pointer < stop:
            self.chaser = tile
        self.users.note([run], tile)

    def chases(self, tile: int) -> bool:
        """Whether a tile reads words that come behind it."""
        return tile == self.chaser

    def follow(self, tiles: int) -> Iterator[Load]:
        """Yield what comes at once behind a tile, the last one of ``tiles``."""
        yield from self.proceed(self.begun, tiles)

    def flush(self, tiles: int) -> Iterator[Load]:
        """Yield what is not through yet, behind ``tiles`` tiles."""
        yield from self.proceed(self.stop, tiles)

    def proceed(self, stop: int, tiles: int) -> Iterator[Load]:
        """Yield the words before the address ``stop`` that have not come yet."""
        lag = lag_after(self.user, tiles)
        yield from input_loads((self.pointer, stop), self.image, lag)
        self.pointer = stop


class Lines:
    """The way into memory of an input that comes row by row of its map, all planes of each: what a
    block of its only reader needs comes ahead of it, where the sequencer has time and what lay
    there is out of use."""

    def __init__(self, layout: TensorLayout, users: Latest, image: int = 0) -> None:
        self.layout, self.users, self.image = layout, users, image
        self.stop = 0  # behind the last row so far

    def precede(self, work: ArrayWork, first: int, count: int, tile: int) -> Iterator[Load]:
        """Yield what must come before tile number ``tile``, the first one of a block of some work;
        all that is left before the last block."""
        layout = self.layout
        passes = {(item.stream, item.warm_up) for column in work.columns for item in column.passes}
        bottoms = [
            stream.walk.rows(stream.y, first, count, warm_up)[1]
            for stream, warm_up in passes
            if isinstance(stream, MapStream) and stream.layout == layout
        ]
        if not bottoms or self.stop == layout.height:
            return
        bottom = max(bottoms)
        ends = first + count == work.region.pixels
        bottom = layout.height if ends else min(bottom, layout.height)
        top, self.stop = self.stop, max(bottom, self.stop)
        for plane in range(layout.planes):
            for group in range(layout.groups):
                run = layout.row_run(plane, group, top, self.stop)
                user = self.users.newest([run])
                yield from input_loads(run, self.image, user=user, due=tile)
