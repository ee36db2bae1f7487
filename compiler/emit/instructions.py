"""Instructions: what the schedule, the timing and the program image know of each.

They are values: whoever moves or cuts one makes another. Each packs itself by the tables of
``arch.isa``. What streams is not frozen all the same: a large network has some 100,000 tiles, and
Python takes five to seven times as long to make a frozen one.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from nupes.arch.encoding import STORE, pack_instruction
from nupes.arch.isa import LAG_FREE, Destination, Opcode
from nupes.compiler.emit.streamed import Streamed, TileSlots
from nupes.compiler.lowering.passes import Key, Payload, Stored

__all__ = [
    "End",
    "Instruction",
    "Load",
    "Measure",
    "Pool",
    "Run",
    "Store",
    "Streamed",
    "Streaming",
    "Tile",
    "TileSlots",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Write payload words to consecutive addresses of a destination.

    Without ``payload`` they are a hole that the host fills with its input, that of an ``image`` of
    a batch, in order. Tables and parameters overwrite what tile ``user`` (-1: none) was the last to
    use, and must precede tile ``due``, as an input must that comes row by row; any other has no
    ``due`` (-1) and stays where it is.

    A hole with a ``key`` is filled by STOREs of the same run instead, so it must stay whole, and no
    tile before number ``floor`` may follow it.
    """

    destination: Destination
    address: int
    words: int
    payload: Callable[[], np.ndarray] | None = None
    lag: int = LAG_FREE
    user: int = -1
    due: int = -1
    image: int = 0
    key: Key | None = None
    floor: int = 0

    follows: ClassVar[bool] = False

    @property
    def hole(self) -> bool:
        """Whether the host fills the payload."""
        return self.payload is None and self.key is None

    @property
    def fence(self) -> bool:
        """Whether it waits until all that was stored is in memory."""
        return self.destination == Destination.FENCE

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


@dataclass(slots=True, kw_only=True)
class Store(Streamed):
    """Store a block of words in the hole of the LOAD with a ``key``, from word ``offset`` of it on:
    that is word ``place`` of the program, which is known once all instructions are."""

    key: Key
    offset: int
    place: int = 0

    words = 0
    to_host = True
    chase = -1

    @property
    def last(self) -> bool:
        """Whether results follow the words."""
        return False

    @property
    def reads(self) -> tuple[tuple[int, int], ...]:
        """The words of the activation memory."""
        return ((self.start.address, self.start.address + self.count),)

    def pack(self) -> int:
        """Return the 256 bits."""
        fields = self.fields()
        del fields["out_address"]
        return pack_instruction({**fields, **STORE, "store_address": self.place})


Streaming = Tile | Pool | Measure | Store


@dataclass(frozen=True, slots=True)
class End:
    """Wait until everything has retired, and end the run."""

    words = 0
    follows = False

    def pack(self) -> int:
        """Return the 256 bits."""
        return pack_instruction({"opcode": Opcode.END})


Instruction = Load | Streaming | End
