"""Instructions: what the schedule, the timing and the program image know of each.

They are values: whoever moves or cuts one makes another. Each packs itself by the tables of
``arch.isa``. What streams is not frozen all the same: a large network has some 100,000 tiles, and
Python takes five to seven times as long to make a frozen one.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar

import numpy as np

from nupes.arch.encoding import pack_instruction
from nupes.arch.isa import LAG_FREE, Destination, Opcode
from nupes.compiler.emit.descriptors import Descriptor
from nupes.compiler.lowering.passes import Payload, Stored
from nupes.compiler.lowering.walks import Start

__all__ = [
    "End",
    "Instruction",
    "Load",
    "Measure",
    "Pool",
    "Run",
    "Streamed",
    "Streaming",
    "Tile",
    "TileSlots",
]


@dataclass(slots=True, kw_only=True)
class TileSlots:
    """The slots that a tile refers to."""

    descriptor: int
    weight: int = 0
    activation: int = 0
    param: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Write payload words to consecutive addresses of a destination.

    Without ``payload`` they are a hole that the host fills with its input, that of an ``image`` of
    a batch, in order. Tables and parameters overwrite what tile ``user`` (-1: none) was the last to
    use, and must precede tile ``due``, as an input must that comes row by row; any other has no
    ``due`` (-1) and stays where it is.
    """

    destination: Destination
    address: int
    words: int
    payload: Callable[[], np.ndarray] | None = None
    lag: int = LAG_FREE
    user: int = -1
    due: int = -1
    image: int = 0

    follows: ClassVar[bool] = False

    @property
    def hole(self) -> bool:
        """Whether the host fills the payload."""
        return self.payload is None

    def part(self, first: int, count: int) -> "Load":
        """Return the LOAD of ``count`` of the payload words, from word ``first`` on."""
        whole = self.payload
        return replace(
            self,
            words=count,
            address=self.address + first,
            payload=whole and (lambda: whole()[first : first + count]),
        )

    def pack(self) -> int:
        """Return the 256 bits."""
        return pack_instruction(
            {
                "opcode": Opcode.LOAD,
                "destination": self.destination,
                "lag": self.lag,
                "count": self.words,
                "address": self.address,
            }
        )


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


@dataclass(frozen=True, slots=True)
class Run:
    """``more`` tiles that follow in a run: fields of an instruction, but for the ``last`` tile,
    which says what happens to the results."""

    more: int
    step: int
    x: int
    slices: bool
    last: "Tile"


@dataclass(slots=True, kw_only=True)
class Tile(Streamed):
    """Load a weight tile, and stream a block through the array.

    ``first`` starts the accumulators from 0, ``finish`` sends them on. Sums of one that
    ``multiplies`` are multiplied by the levels at the residual port. A ``chase`` of at least 0 is
    the first address of a stream that follows the input's transfer. Statistics of its results are
    gathered if it ``gathers``, as the first ones and as the last ones of their pixels. Two planes
    of what it streams are ``joined``. Weights that are ``kept`` are those of the tile before.
    """

    payload: Payload | Stored
    first: bool
    finish: bool
    multiplies: bool = False
    slice: int = 0
    joined: bool = False
    kept: bool = False
    out_slice: int = 0
    shift: int = 0
    residual_address: int = 0
    chase: int = -1
    weight_lag: int = LAG_FREE
    gathers: bool = False
    gathers_first: bool = False
    gathers_last: bool = False
    run: Run | None = None

    @property
    def words(self) -> int:
        """Payload words."""
        return 0 if self.kept else self.payload.size

    @property
    def factors_follow(self) -> bool:
        """Whether the tile retires with its pixels' factors."""
        return self.gathers_last

    def following(self) -> "Tile":
        """Return the tile as one that follows in a run."""
        # What dataclasses.replace does, in a fifth of the time.
        made = object.__new__(Tile)
        for name in TILE_FIELDS:
            setattr(made, name, getattr(self, name))
        made.follows, made.lag = True, LAG_FREE
        return made

    def fetch_cycles(self, cols: int) -> int:
        """Cycles from DECODE until weights from memory are there, 0 for those of the payload."""
        if isinstance(self.payload, Payload):
            return 0
        return self.payload.rows + 1 + cols * self.payload.transposed

    @property
    def last(self) -> bool:
        """Whether results follow the pixels."""
        return self.finish

    @property
    def reads_residual(self) -> bool:
        """Whether the residual port is read for each pixel."""
        return self.finish or self.multiplies

    @property
    def to_host(self) -> bool:
        """Whether the results leave the array."""
        coded = self.descriptor.results.encoder_depth != 0
        return self.finish and not coded and not self.descriptor.tokens.out_wide

    def pack(self) -> int:
        """Return the 256 bits."""
        opcode, weights = Opcode.MULTIPLY if self.multiplies else Opcode.TILE, {}
        last = self
        if self.run is not None:
            last = self.run.last
            weights = {
                "more": self.run.more,
                "run_step": self.run.step,
                "run_x": self.run.x,
                "run_slices": self.run.slices,
            }
        if isinstance(self.payload, Stored):
            opcode = Opcode.MATMUL
            weights = {
                "weight_address": self.payload.address,
                "weight_lag": self.weight_lag,
                "weight_slice": self.payload.slice,
                "transposed": self.payload.transposed,
            }
        return pack_instruction(
            {
                **self.fields(),
                **weights,
                "opcode": opcode,
                "first": self.first,
                "last": last.finish,
                "chase": self.chase >= 0,
                "masked": self.payload.masked,
                "joined": self.joined,
                "weights_joined": self.payload.joined,
                "kept": self.kept,
                "weight_slot": self.slots.weight,
                "activation_slot": self.slots.activation,
                "param_slot": last.slots.param,
                "rows": self.payload.rows,
                "slice": self.slice,
                "out_address": last.out_address,
                "out_slice": self.out_slice,
                "residual_address": last.residual_address,
                "shift": self.shift,
                "gather": last.gathers,
                "gather_first": last.gathers_first,
                "gather_last": last.gathers_last,
            }
        )


TILE_FIELDS = tuple(item.name for item in fields(Tile))


@dataclass(slots=True, kw_only=True)
class Pool(Streamed):
    """Stream a block through the max-pool unit."""

    words = 0
    to_host = False
    chase = -1

    def pack(self) -> int:
        """Return the 256 bits."""
        return pack_instruction(
            {**self.fields(), "opcode": Opcode.POOL, "first": True, "last": True}
        )


@dataclass(slots=True, kw_only=True)
class Measure(Streamed):
    """Stream a block of tokens through the statistics unit."""

    words = 0
    to_host = False
    chase = -1

    @property
    def last(self) -> bool:
        """Whether results follow the tokens."""
        return False

    @property
    def factors_follow(self) -> bool:
        """Whether the tile retires with its tokens' factors."""
        return True

    def pack(self) -> int:
        """Return the 256 bits."""
        return pack_instruction({**self.fields(), "opcode": Opcode.MEASURE})


Streaming = Tile | Pool | Measure


@dataclass(frozen=True, slots=True)
class End:
    """Wait until everything has retired, and end the run."""

    words = 0
    follows = False

    def pack(self) -> int:
        """Return the 256 bits."""
        return pack_instruction({"opcode": Opcode.END})


Instruction = Load | Streaming | End
