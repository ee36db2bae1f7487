"""What streams, by any instruction: where it begins, how it goes on, and what it waits for."""

from dataclasses import asdict, dataclass

from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.descriptors import Descriptor
from nupes.compiler.lowering.walks import Start

__all__ = ["Streamed", "TileSlots"]


@dataclass(slots=True, kw_only=True)
class TileSlots:
    """The slots that a tile refers to."""

    descriptor: int
    weight: int = 0
    activation: int = 0
    param: int = 0


@dataclass(slots=True, kw_only=True)
class Streamed:
    """What streams a block of ``count`` pixels: a tile of the array, or of the max-pool unit.

    It waits for the results of tile ``after`` (-1: none): so many tiles are its ``lag``. One that
    ``follows`` is in the run of a tile before, whose instruction carries it. With a ``warm_up`` it
    streams steps of chains: so many precede the pixels of each row of the block.
    """

    start: Start
    descriptor: Descriptor
    slots: TileSlots
    count: int
    after: int = -1
    lag: int = LAG_FREE
    mark: bool = False
    out_address: int = 0
    follows: bool = False
    warm_up: int = 0

    @property
    def per_pixel(self) -> int:
        """Words that are streamed for each pixel."""
        return self.descriptor.walk.words

    @property
    def streamed(self) -> int:
        """Words that are streamed."""
        if not self.warm_up:
            return self.descriptor.walk.words * self.count
        return self.per_pixel * (self.count + self.warm_up * len(self.lines))

    @property
    def lines(self) -> range:
        """The first pixels of what streams without another step between: the block, or its rows,
        as if it began with a whole one."""
        if not self.warm_up:
            return range(0, self.count, self.count)
        return range(-self.start.column, self.count, self.descriptor.walk.out_width)

    @property
    def lead(self) -> int:
        """Words before a row's first pixel, and of that pixel all but the last one."""
        return (self.warm_up + 1) * self.per_pixel - 1

    @property
    def last(self) -> bool:
        """Whether results follow the pixels."""
        return True

    @property
    def factors_follow(self) -> bool:
        """Whether the tile retires with its pixels' factors."""
        return False

    @property
    def reads_residual(self) -> bool:
        """Whether the residual port is read for each pixel."""
        return self.last

    @property
    def pace(self) -> int:
        """Cycles from a pixel's last word to the next word."""
        return self.descriptor.results.pace if self.last or self.reads_residual else 1

    @property
    def writes(self) -> int:
        """Words that are written, or queued for the host, for each pixel."""
        return self.descriptor.results.out_planes if self.last else 0

    def result_address(self, pixel: int) -> int:
        """Return the address of the first plane of a pixel's result; ``pixel`` counts from 0."""
        walk, results = self.descriptor.walk, self.descriptor.results
        rows = (self.start.column + pixel) // walk.out_width
        steps = (pixel - rows) * results.out_step + rows * results.out_row_step
        return self.out_address + steps

    @property
    def residual_reads(self) -> int:
        """Words that are read at the residual port for each pixel."""
        return self.descriptor.results.residual_planes if self.reads_residual else 0

    @property
    def distance(self) -> int:
        """Cycles from a pixel's last word to the next one's, if nothing holds it up."""
        return self.per_pixel + self.pace - 1

    @property
    def stream_cycles(self) -> int:
        """Cycles from the first to the final word of the stream, if nothing holds it up."""
        per_pixel, warm_up = self.descriptor.walk.words, 0
        if self.warm_up:
            warm_up = self.warm_up * per_pixel * len(self.lines)
        return warm_up + per_pixel + (self.count - 1) * (per_pixel + self.pace - 1)

    def fields(self) -> dict[str, int]:
        """Return the fields that tiles of both units have."""
        return {
            **asdict(self.start),
            "lag": self.lag,
            "mark": self.mark,
            "count": self.count,
            "descriptor": self.slots.descriptor,
            "out_address": self.out_address,
            "warm_up": self.warm_up,
        }
