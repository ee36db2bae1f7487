"""What a layer is on the array: blocks of pixels that stream through passes, whatever its operator.

A lowering turns a layer into ``Work``; the emitter turns work into instructions. The types know
more than an array can do yet: what it cannot do, the emitter refuses by the layer's name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import PatchLayout, Region, Run, TensorLayout
from nupes.model.layer import Encoder, Requantize
from nupes.model.planes import Planes

__all__ = [
    "ArrayWork",
    "Column",
    "Finish",
    "MapStream",
    "Pass",
    "PatchStream",
    "Payload",
    "PoolWork",
    "Second",
    "Stored",
    "Tables",
    "Target",
    "TokenFactor",
    "Work",
]


@dataclass(frozen=True, slots=True)
class MapStream:
    """Words of one plane and channel group of a stored map; pixel 0 begins at (y, x)."""

    walk: Walk
    layout: TensorLayout
    plane: int
    group: int
    y: int = 0
    x: int = 0


@dataclass(frozen=True, slots=True)
class PatchStream:
    """A run of the packed input, one word per pixel, that may still be arriving."""

    layout: PatchLayout
    plane: int
    word: int


@dataclass(frozen=True, slots=True)
class Payload:
    """Weights from the program: ``rows`` rows, with masks or without; ``words`` gives the port
    words, uint64 (``size``, words of 64 bits)."""

    rows: int
    masked: bool
    words: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """Port words."""
        return self.rows * (2 if self.masked else 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights from a stored tensor: its pixels as rows, or its channels (``transposed``)."""

    tensor: str
    transposed: bool


@dataclass(frozen=True, slots=True)
class TokenFactor:
    """A stored tensor with one factor for each pixel, applied before the requantization."""

    tensor: str


@dataclass(frozen=True, eq=False, slots=True)
class Second:
    """A stored tensor at the residual port: its level times ``mult``, rounded and shifted, is added
    to a pixel's result, or multiplies a pass (``mult`` 0)."""

    layout: TensorLayout
    planes: Planes
    mult: int = 0
    shift: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """What a pass needs of the cells: entries of both decode tables, of a pair cell's products, and
    the left shift of its sums."""

    weight: np.ndarray
    activation: np.ndarray
    products: np.ndarray | None
    shift: int


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """One stationary operand, and the words that stream past it into a column's accumulators.

    ``slice`` says which ``rows`` codes of a word enter. Sums are multiplied by the level of
    ``times`` before they are accumulated.
    """

    stream: MapStream | PatchStream
    slice: int
    stationary: Payload | Stored
    tables: Tables
    times: Second | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """Column tile ``index`` of a layer: the passes into its accumulators, in order."""

    index: int
    passes: tuple[Pass, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Target:
    """A stored tensor, and the encoder that makes its codes."""

    layout: TensorLayout
    planes: Planes
    encoder: Encoder


@dataclass(frozen=True, eq=False, slots=True)
class Finish:
    """What follows the last pass: requantization, a tensor that is added, and the target (None: the
    host)."""

    requantize: Requantize
    target: Target | None
    residual: Second | None = None
    factor: TokenFactor | None = None


@dataclass(frozen=True, eq=False, slots=True)
class ArrayWork:
    """For every block of the pixels of a ``region`` of the result each column in turn."""

    region: Region
    columns: tuple[Column, ...]
    finish: Finish


@dataclass(frozen=True, eq=False, slots=True)
class PoolWork:
    """Each channel group of a map through the max-pool unit."""

    source: TensorLayout
    streams: tuple[MapStream, ...]
    target: TensorLayout

    @property
    def reads(self) -> tuple[Run, ...]:
        """What each channel group waits for: the whole map."""
        groups, pixels = range(self.source.groups), self.source.pixels
        return tuple(run for group in groups for run in self.source.pixel_runs(group, 0, pixels))


Work = ArrayWork | PoolWork
