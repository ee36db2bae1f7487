"""The stream engine: when each tile issues its words, and when it retires."""

from collections.abc import Sequence
from math import inf

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, plane_cycles
from nupes.compiler.emit.instructions import Measure, Pool, Store, Streaming, Tile
from nupes.compiler.timing.ports import ResidualPort, WritePorts
from nupes.compiler.timing.progress import Progress
from nupes.model.errors import SimulationError

__all__ = ["StreamEngine"]


class StreamEngine:
    """Issues the words of dispatched tiles in order; results follow at a fixed distance."""

    def __init__(self, config: ArrayConfig, writes: WritePorts, progress: Progress) -> None:
        self.config = config
        self.writes = writes
        self.residual = ResidualPort(config)
        self.delays = {
            Tile: config.issue_to_write,
            Pool: config.issue_to_pool + 1,
            Measure: config.issue_to_factor,
            Store: 1,
        }
        self.progress = progress
        # Dispatched tiles, with the cycle from which the engine sees them.
        self.queue: list[tuple[Streaming, int]] = []
        self.first: list[int] = []
        self.final: list[int] = []
        self.retired: list[int] = []
        self.next_issue = 0  # earliest cycle for the next word
        self.written = np.full(config.act_depth, -1, np.int64)  # when each input word was written
        self.chased: list[int] = []  # issues of the tile that chases the input, so far
        self.leaving = -1  # the last tile whose results leave the array

    def dispatch(self, tile: Streaming, cycle: int) -> None:
        """Add a tile that the engine sees from ``cycle`` on."""
        if tile.reads_residual:
            self.residual.read(tile)
        if tile.to_host:
            self.leaving = len(self.queue)
        self.queue.append((tile, cycle))
        self.advance()

    def point(self, address: int) -> None:
        """Let the write pointer rise or fall to the address of a LOAD: what lies behind it is still
        to come."""
        self.written[address:] = -1

    def arrive(self, address: int, cycles: Sequence[int]) -> None:
        """Note in which ``cycles`` input words are written, those from ``address`` on."""
        written = np.arange(cycles.start, cycles.stop) if isinstance(cycles, range) else cycles
        self.written[address : address + len(cycles)] = written
        self.advance()

    def stores_nothing(self) -> bool:
        """Whether no tile that still waits for the input stores results."""
        return self.least_delay() == inf

    def least_delay(self) -> float:
        """Return the cycles for which no tile that waits for the input can store a result, from its
        first word on; infinity if none stores any."""
        waiting = (tile for tile, _ in self.queue[len(self.final) :])
        stored = (self.delays[type(tile)] for tile in waiting if tile.writes and not tile.to_host)
        return min(stored, default=inf)

    def started(self, tile: int) -> int:
        """Return the cycle in which a tile issues its first word."""
        if tile >= len(self.first):
            raise SimulationError("schedule would wait forever: a tile precedes its input")
        return self.first[tile]

    def retirement(self, tile: int) -> int:
        """Return the cycle in which a tile retires, which must not wait for what comes later."""
        if tile >= len(self.retired):
            raise SimulationError("schedule would wait forever: an instruction precedes the input")
        return self.retired[tile]

    def settled(self) -> int:
        """Return the cycle from which on all tiles so far have retired, and nothing is left of what
        leaves the array."""
        cycle = self.retirement(len(self.queue) - 1) + 1 if self.queue else 0
        return max(cycle, self.retirement(self.leaving) + 2) if self.leaving >= 0 else cycle

    def advance(self) -> None:
        """Issue every word whose time is known."""
        while len(self.final) < len(self.queue):
            index = len(self.final)
            tile, seen = self.queue[index]
            if len(self.first) == index and not self.chased:
                self.next_issue = max(self.next_issue, self.accept(tile, index, seen) + 1)
            if tile.chase < 0:
                self.issue(tile)
            elif not self.follow(tile):
                return

    def accept(self, tile: Streaming, index: int, seen: int) -> int:
        """Return the cycle in which the engine accepts a tile: seen, its turn, its lag met."""
        cycle = max(seen, self.final[-1] if index else 0)
        after_factors = index > 0 and self.queue[index - 1][0].factors_follow
        lag = tile.lag if isinstance(tile, Tile) and not after_factors else 0
        if lag != LAG_FREE and index > lag:
            cycle = max(cycle, self.retired[index - lag - 1] + 1)
        return cycle

    def issue(self, tile: Streaming) -> None:
        """Issue a whole tile at its pace."""
        self.first.append(self.next_issue)
        if tile.writes and not tile.to_host:
            distance = tile.distance
            written = self.next_issue + tile.lead + self.delay(tile)
            for line in tile.lines:
                pixel, stop = max(line, 0), min(line + tile.lines.step, tile.count)
                end = written + distance * (stop - pixel)
                self.writes.write(tile, pixel, range(written, end, distance))
                written = end + tile.warm_up * tile.per_pixel
        self.finish(tile, self.next_issue + tile.stream_cycles - 1)
        self.progress.note(self.first[-1], self.final[-1])

    def follow(self, tile: Streaming) -> bool:
        """Issue the words of a tile that chases the input, as far as it is known to be written.

        Return whether that is all of them.
        """
        delay, pace = self.delay(tile), tile.pace
        while len(self.chased) < tile.count:
            written = int(self.written[tile.chase + len(self.chased)])
            if written < 0:
                return False
            cycle = max(self.next_issue, written + 1)
            if not self.chased:
                self.first.append(cycle)
            if tile.writes and not tile.to_host:
                cycles = range(cycle + delay, cycle + delay + 1)
                self.writes.write(tile, len(self.chased), cycles)
            self.progress.note(cycle, cycle)
            self.chased.append(cycle)
            self.next_issue = cycle + pace
        self.finish(tile, self.chased[-1])
        self.chased = []
        return True

    def delay(self, tile: Streaming) -> int:
        """Return the cycles from the issue of a pixel's last word to its first write, a token's to
        its factor, of a word that is stored until the memory has given it."""
        return self.delays[type(tile)]

    def finish(self, tile: Streaming, final: int) -> None:
        """Note the final word of a tile."""
        self.final.append(final)
        self.next_issue = final + tile.pace
        delay, writes = self.delay(tile), tile.writes
        written = final + delay + plane_cycles(writes) - 1
        if not writes:
            self.retired.append(written)
            return
        late = tile.factors_follow
        self.retired.append(final + self.config.issue_to_gathered if late else written)
        # A result that the host takes is progress in the cycle after it was queued as well.
        self.progress.note(self.first[-1] + tile.lead + delay, written + tile.to_host)
