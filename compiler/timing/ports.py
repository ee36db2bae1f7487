"""The ports of the activation memory that are occupied: to write results, to read residuals."""

from bisect import bisect_left
from math import inf

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS, plane_cycles
from nupes.compiler.emit.instructions import Streaming
from nupes.model.errors import SimulationError

__all__ = ["ResidualPort", "WritePorts"]


class WritePorts:
    """One port of each bank: the cycles in which results are written, increasing.

    Only a LOAD of the activation memory asks for them: until then tiles are noted as they are.
    """

    def __init__(self) -> None:
        self.busy: list[list[int]] = [[] for _ in range(BANKS)]
        self.noted: list[tuple[Streaming, int, range]] = []

    def write(self, tile: Streaming, pixel: int, cycles: range) -> None:
        """Occupy the ports for the planes of the results of pixels from ``pixel`` on; each is
        written from one of the ``cycles`` on."""
        self.noted.append((tile, pixel, cycles))

    def occupy(self, tile: Streaming, pixel: int, cycle: int) -> None:
        """Occupy the ports for the planes of one pixel's result."""
        pairs, single = divmod(tile.writes, BANKS)
        for busy in self.busy:
            busy += range(cycle, cycle + pairs)
        if single:
            self.busy[tile.result_address(pixel) % BANKS].append(cycle + pairs)

    def settle(self) -> None:
        """Occupy the ports for the tiles that were noted."""
        for tile, first, cycles in self.noted:
            for pixel, begin in enumerate(cycles, first):
                self.occupy(tile, pixel, begin)
        self.noted.clear()

    def last(self) -> int:
        """Return the last cycle in which a result is written, as far as is known; -1 for none."""
        self.settle()
        return max((busy[-1] for busy in self.busy if busy), default=-1)

    def next(self, cycle: int) -> float:
        """Return the first cycle from ``cycle`` on in which a result is written, infinity if there
        is none."""
        self.settle()
        places = [(busy, bisect_left(busy, cycle)) for busy in self.busy]
        return min((busy[at] for busy, at in places if at < len(busy)), default=inf)

    def free(self, address: int, cycle: int) -> int:
        """Return the first cycle from ``cycle`` on in which no result is written to the bank of
        ``address``.
        """
        self.settle()
        busy = self.busy[address % BANKS]
        position = bisect_left(busy, cycle)
        while position < len(busy) and busy[position] == cycle:
            cycle += 1
            position += 1
        return cycle


class ResidualPort:
    """One port of each bank: a word's planes are read, two a cycle, before the next word's.

    The stream keeps words far enough apart (``pace``): the port delays nothing, but what would
    occupy it twice is no schedule.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config

    def read(self, tile: Streaming) -> None:
        """Occupy the port for every word of a tile that reads at it."""
        planes, pace = tile.residual_reads, tile.pace
        if planes > self.config.residual_planes or plane_cycles(planes) > pace:
            most = min(BANKS * pace, self.config.residual_planes)
            raise SimulationError(
                f"schedule must read at most {most} residual planes at pace {pace}, not {planes}"
            )
