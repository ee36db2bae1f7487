"""Stored tensors: maps of codes, or of 16-bit results, and the ranges of them that a layer reads.

A map has the shape (h, w, c), channels innermost, as in the activation memory. A sequence of t
tokens is the map (t, 1, c).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError

__all__ = ["Coded", "Ends", "Format", "Port", "Shape", "Tensor", "Wide"]

Shape = tuple[int, int, int]
"""Height, width and channels of a map."""

Ends = tuple[int, int]
"""The lowest and the highest integer that a number of a tensor can stand for."""


@dataclass(frozen=True)
class Coded:
    """Codes, uint8: the value of a code is ``scale * codebook.levels[code]``."""

    codebook: Codebook
    scale: float

    kind: ClassVar[str] = "coded"

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return self.codebook.bits

    @property
    def ends(self) -> Ends:
        """The lowest and the highest level."""
        return int(self.codebook.levels[0]), int(self.codebook.levels[-1])


@dataclass(frozen=True)
class Wide:
    """The results ``y`` of a layer as they are, int16: the value is ``scale * y``."""

    scale: float

    kind: ClassVar[str] = "wide"
    bits: ClassVar[int] = 16
    ends: ClassVar[Ends] = Y_RANGE


Format = Coded | Wide


@dataclass(frozen=True)
class Tensor:
    """A map (h, w, c) that a layer stores or emits, or that the host gives."""

    name: str
    shape: Shape
    format: Format

    @property
    def codebook(self) -> Codebook:
        """The codebook of a coded tensor; raise ``InputError`` for a wide one."""
        if isinstance(self.format, Wide):
            raise InputError(f"tensor {self.name!r} must be coded, not wide, to have a codebook")
        return self.format.codebook

    @property
    def scale(self) -> float:
        """The real value of a level, or of ``y``, that is 1."""
        return self.format.scale

    def levels(self, stored: np.ndarray) -> np.ndarray:
        """Return the integers that stored codes or results stand for, int16 of the same shape."""
        return stored if isinstance(self.format, Wide) else self.codebook.levels[stored]


@dataclass(frozen=True)
class Port:
    """What a layer reads of a tensor: ``channels`` channels from ``first`` on of ``rows`` rows from
    ``first_row`` on, or all of them."""

    tensor: str
    first: int = 0
    channels: int | None = None
    first_row: int = 0
    rows: int | None = None

    def shape(self, whole: Shape) -> Shape:
        """Return the (h, w, c) that is read of a tensor of shape ``whole``."""
        height, width, channels = whole
        rows = height - self.first_row if self.rows is None else self.rows
        return rows, width, channels - self.first if self.channels is None else self.channels

    def select(self, stored: np.ndarray) -> np.ndarray:
        """Return what is read of a stored map (..., h, w, c)."""
        if self == Port(self.tensor):
            return stored
        stop = None if self.channels is None else self.first + self.channels
        last = None if self.rows is None else self.first_row + self.rows
        return stored[..., self.first_row : last, :, self.first : stop]
