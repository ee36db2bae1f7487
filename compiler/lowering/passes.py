"""What a layer is on the array: blocks of pixels that stream through passes, whatever its operator.

A lowering turns a layer into ``Work``; the emitter turns work into instructions. The types know
more than an array can do yet: what it cannot do, the emitter refuses by the layer's name. All are
values; those of which a network has as many as tiles are not frozen, because making them takes
Python so much longer.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Scaled, Statistic
from nupes.compiler.lowering.walks import Walk, pair_walk
from nupes.compiler.place.layout import PatchLayout, Region, Run, TensorLayout, blocks
from nupes.model.layer import Encoder, Requantize
from nupes.model.planes import Planes

__all__ = [
    "ArrayWork",
    "Bring",
    "Column",
    "Finish",
    "Key",
    "MapStream",
    "Pass",
    "PatchStream",
    "Payload",
    "PoolWork",
    "Put",
    "Second",
    "Statistics",
    "Step",
    "Stored",
    "Tables",
    "Target",
    "Work",
]


Key = tuple[int, str, int, int, int, int, int]
"""Words of a tensor that lies in the program: the image of a batch, the tensor, the layer that
reads them, its band, plane, channel group, and which part of these."""


@dataclass(eq=False, slots=True)
class MapStream:
    """Words of one plane and channel group of a stored map; pixel 0 begins at (y, x). If
    ``joined``, each comes with that of the plane below. Streams are compared by identity: passes
    over the same words share one."""

    walk: Walk
    layout: TensorLayout
    plane: int
    group: int
    y: int = 0
    x: int = 0
    joined: bool = False

    def join(self) -> "MapStream":
        """Return the stream that joins the plane with the next one."""
        walk = pair_walk(self.walk, -self.layout.plane_step)
        return replace(self, walk=walk, plane=self.plane + 1, joined=True)


@dataclass(eq=False, slots=True)
class PatchStream:
    """A run of the packed input, one word per pixel and plane, that may still be arriving: one
    plane, or if ``joined`` two."""

    layout: PatchLayout
    plane: int
    word: int
    joined: bool = False

    def join(self) -> "PatchStream":
        """Return the stream that joins the plane with the next one."""
        return replace(self, joined=True)


@dataclass(slots=True)
class Payload:
    """Weights from the program: ``rows`` rows, with masks or without, of one digit or two
    (``joined``); ``words`` gives the port words, uint64 (``size``, words of 64 bits)."""

    rows: int
    masked: bool
    words: Callable[[], np.ndarray]
    joined: bool = False

    @property
    def size(self) -> int:
        """Port words."""
        return self.rows * (1 + self.masked + self.joined)


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights from a stored tensor: ``rows`` rows, each from a word of a plane and channel group,
    from pixel ``first`` on, or from a code of the words of ``count`` pixels (``transposed``).

    ``slice`` says which codes of a word they are.
    """

    layout: TensorLayout
    plane: int
    group: int
    first: int
    rows: int
    slice: int
    transposed: bool
    count: int

    size: ClassVar[int] = 0
    masked: ClassVar[bool] = False
    joined: ClassVar[bool] = False

    @property
    def address(self) -> int:
        """Address of the first word."""
        return self.layout.address(self.plane, self.group) + self.first

    @property
    def reads(self) -> Run:
        """What must be in memory."""
        last = min(self.first + self.count, self.layout.pixels)
        return self.address, self.address + last - self.first


@dataclass(frozen=True, eq=False, slots=True)
class Second:
    """A stored tensor at the residual port: its level times ``mult``, rounded and shifted, is added
    to a pixel's result, or multiplies a pass (``mult`` 0)."""

    layout: TensorLayout
    planes: Planes
    mult: int = 0
    shift: int = 1
    wide: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """What a pass needs of the cells: entries of both decode tables, of a pair cell's products, and
    the left shift of its sums."""

    weight: np.ndarray
    activation: np.ndarray
    products: np.ndarray | None
    shift: int


@dataclass(eq=False, slots=True)
class Pass:
    """One stationary operand, and the words that stream past it into a column's accumulators.

    ``slice`` says which ``rows`` codes of a word enter. Sums are multiplied by the level of
    ``times`` before they are accumulated. One without rows needs no ``tables``. A ``count`` is how
    many pixels of a block stream, from its first one on, if not all. With a ``warm_up`` it is one
    of chains: so many steps precede the pixels of each row.
    """

    stream: MapStream | PatchStream
    slice: int
    stationary: Payload | Stored
    tables: Tables | None
    times: Second | None = None
    count: int | None = None
    warm_up: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """Column tile ``index`` of a layer: the passes into its accumulators, in order."""

    index: int
    passes: tuple[Pass, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """A stored tensor, and the encoder that makes its codes (None: it is wide)."""

    layout: TensorLayout
    planes: Planes
    encoder: Encoder | None


@dataclass(frozen=True, eq=False, slots=True)
class Finish:
    """What follows the last pass: requantization, a tensor that is added, and the target (None: the
    host). ``scaled`` goes through the token stage, which has the factors of the work's tokens."""

    requantize: Requantize
    target: Target | None
    residual: Second | None = None
    scaled: Scaled = Scaled.NONE


@dataclass(frozen=True, eq=False, slots=True)
class Statistics:
    """What is gathered of the ``numbers`` of every token of a stored tensor, and becomes its
    factor.

    ``stream`` walks all numbers of a token, two planes of each at a time, from the most significant
    pair on, whose upper one does not exist where there is an ``odd`` number of them. Levels are the
    digits side by side plus ``offset``, or those of ``table``.
    """

    statistic: Statistic
    stream: MapStream
    layout: TensorLayout
    numbers: int
    odd: bool
    offset: int
    table: np.ndarray | None
    channels: int = 0
    epsilon: int = 0

    def reads(self, first: int, count: int) -> Iterator[Run]:
        """Yield what some tokens wait for."""
        for group in range(self.layout.groups):
            yield from self.layout.pixel_runs(group, first, count)


@dataclass(frozen=True, eq=False, slots=True)
class ArrayWork:
    """For every block of the pixels of a ``region`` of the result the tokens' factors, if there are
    ``statistics``, then each column in turn; those of the results themselves are left behind, if
    something ``gathers`` them. A ``block``, its first pixel and how many, is the only one; else
    blocks are as large as the accumulators, whole times ``unit`` pixels."""

    region: Region
    columns: tuple[Column, ...]
    finish: Finish
    statistics: Statistics | None = None
    gathers: Statistics | None = None
    block: tuple[int, int] | None = None
    unit: int = 1

    def blocks(self, config: ArrayConfig) -> Iterable[tuple[int, int]]:
        """Return the first pixel of each block, and how many it has."""
        if self.block is not None:
            return [self.block]
        return blocks(self.region.pixels, config.acc_depth // self.unit * self.unit)


@dataclass(frozen=True, eq=False, slots=True)
class PoolWork:
    """Each channel group of a map through the max-pool unit; only a ``block`` of the result, its
    first pixel and how many, if there is one."""

    source: TensorLayout
    streams: tuple[MapStream, ...]
    target: TensorLayout
    block: tuple[int, int] | None = None

    def blocks(self, most: int) -> Iterable[tuple[int, int]]:
        """Return the first pixel of each block, and how many it has: at most so many."""
        first, count = self.block or (0, self.target.pixels)
        return ((first + part, size) for part, size in blocks(count, most))

    @property
    def reads(self) -> tuple[Run, ...]:
        """What each channel group waits for: the whole map, or the rows that a block reads."""
        stream, rows = self.streams[0], (0, self.source.height)
        if self.block is not None:
            rows = stream.walk.rows(stream.y, *self.block, 0)
        planes, groups = range(self.source.planes), range(self.source.groups)
        return tuple(
            self.source.row_run(plane, group, *rows) for group in groups for plane in planes
        )


@dataclass(frozen=True, slots=True)
class Bring:
    """``words`` of a tensor that lies in the program come to an ``address``."""

    key: Key
    address: int
    words: int


@dataclass(frozen=True, slots=True)
class Put:
    """``words`` from an ``address`` on go into the program, to where others of the same ``key``
    begin ``offset`` words before them."""

    key: Key
    offset: int
    address: int
    words: int


Work = ArrayWork | PoolWork

Step = Work | Bring | Put
"""What a layer does: its work, or in bands parts of it and what these need and leave."""
