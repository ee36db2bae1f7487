"""Mosaics: maps made of pieces of others, on codes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import LARGEST, Operator, check_numbers, is_integer
from nupes.model.tensor import Shape

__all__ = ["Grid", "Mosaic", "Piece"]

Triple = tuple[int, int, int]
"""A number for rows, columns and channels."""

Grid = tuple[int, int, int, int, int, int]
"""Pixels of a result: rows and columns, the first row and column, and the steps of both."""


@dataclass(frozen=True)
class Piece:
    """A grid of an input's values at a grid of the result: value i of an axis is number ``at + i *
    at_step`` of input ``source``, and number ``to + i * to_step`` of the result."""

    source: int
    count: Triple
    to: Triple
    to_step: Triple
    at: Triple
    at_step: Triple

    @property
    def grid(self) -> Grid:
        """The pixels of the result."""
        return *self.count[:2], *self.to[:2], *self.to_step[:2]

    def places(self, axis: int) -> range:
        """Return where the values of an axis stand in the result."""
        first, step = self.to[axis], self.to_step[axis]
        return range(first, first + self.count[axis] * step, step)

    def origins(self, axis: int) -> np.ndarray:
        """Return where the values of an axis stand in the input, int64."""
        return self.at[axis] + np.arange(self.count[axis]) * self.at_step[axis]

    def check(self) -> None:
        """Refuse numbers out of their ranges."""
        check_numbers(
            source=(self.source, 1, 0),
            count=(self.count, 3, 1),
            to=(self.to, 3, 0),
            to_step=(self.to_step, 3, 1),
            at=(self.at, 3, 0),
        )
        steps = self.at_step
        if len(steps) != 3 or not all(is_integer(n) and abs(n) <= LARGEST for n in steps):
            raise InputError(f"at_step must be 3 integers in -{LARGEST}..{LARGEST}, not {steps}")


@dataclass(frozen=True)
class Mosaic(Operator):
    """A map of ``size`` (h, w, c) whose values are those of pieces of the inputs.

    Pieces with one grid of pixels share the channels among them, and the grids share the map.
    """

    size: Triple
    pieces: tuple[Piece, ...]

    kind: ClassVar[str] = "mosaic"
    copies: ClassVar[bool] = True
    most_inputs: ClassVar[int | None] = None

    @property
    def grids(self) -> dict[Grid, list[Piece]]:
        """The pieces of each grid of pixels."""
        found: dict[Grid, list[Piece]] = {}
        for piece in self.pieces:
            found.setdefault(piece.grid, []).append(piece)
        return found

    def check(self) -> None:
        """Refuse pieces that do not make up the map, each value once."""
        check_numbers(size=(self.size, 3, 1))
        for piece in self.pieces:
            piece.check()
        height, width, channels = self.size
        map_counts = np.zeros((height, width), np.int64)
        for pieces in self.grids.values():
            count_once(map_counts, pieces[0].places(0), pieces[0].places(1))
            channel_counts = np.zeros((channels, 1), np.int64)
            for piece in pieces:
                count_once(channel_counts, piece.places(2), range(1))
            require_once(channel_counts, "channel of a grid")
        require_once(map_counts, "pixel")

    def shape(self, *inputs: Shape) -> Shape:
        """Return the size; refuse pieces that reach beyond the inputs."""
        for piece in self.pieces:
            if piece.source >= len(inputs):
                raise InputError(f"source must be below {len(inputs)} inputs, not {piece.source}")
            for axis, size in enumerate(inputs[piece.source]):
                last = piece.at[axis] + (piece.count[axis] - 1) * piece.at_step[axis]
                if not (piece.at[axis] < size and 0 <= last < size):
                    raise InputError(
                        f"a piece must lie in its input of {size} (axis {'hwc'[axis]}), not reach "
                        f"from {piece.at[axis]} to {last}"
                    )
        return self.size

    def copy(self, *codes: np.ndarray) -> np.ndarray:
        """Return the codes of all pieces at their places, or whatever the maps hold."""
        out = np.empty((len(codes[0]), *self.size), codes[0].dtype)
        for piece in self.pieces:
            ys, xs, cs = (slice_of(piece.places(axis)) for axis in range(3))
            rows, columns, channels = (piece.origins(axis) for axis in range(3))
            # One axis after another: an index of several arrays would pair their numbers.
            out[:, ys, xs, cs] = codes[piece.source][:, rows][:, :, columns][..., channels]
        return out


def slice_of(places: range) -> slice:
    """Return the slice of ascending places."""
    return slice(places.start, places.stop, places.step)


def count_once(counts: np.ndarray, rows: range, columns: range) -> None:
    """Count the places of a grid; refuse those outside."""
    for places, size in zip((rows, columns), counts.shape, strict=True):
        if places[-1] >= size:
            raise InputError(f"a piece must lie in its result of {size}, not reach {places[-1]}")
    counts[slice_of(rows), slice_of(columns)] += 1


def require_once(counts: np.ndarray, what: str) -> None:
    """Refuse places that have not exactly one piece."""
    wrong = np.argwhere(counts != 1)
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise InputError(
            f"each {what} of a mosaic must be of one piece, not {what} {place} of {counts[place]}"
        )
