"""Mosaics of several grids: maps whose pixels or channels come from different crossings of rows and
columns, such as pixel shuffles, whoever wrote them."""

from itertools import product

import numpy as np

from nupes.model.operators import Mosaic, Piece
from nupes.quantizer.frontend.graph import Shape
from nupes.quantizer.frontend.lines import lines_of

__all__ = ["MOST_PIECES", "find_pieces", "raster"]

CLOSE = range(1, 9)
"""Rows, and columns, between two lines of a grid of the result, where it has several."""

MOST_PIECES = 64
"""Most pieces of a mosaic: more take more time on the array than a host needs for the values."""


def find_pieces(places: np.ndarray, shape: Shape) -> Mosaic | None:
    """Return the mosaic of a map (h, w, c) that has these places (n, h, w), of the coarsest grids
    whose every channel is a crossing of rows and columns; ``None`` where none of few pieces
    has."""
    count, height, width = places.shape
    steps = (phases(size) for size in (height, width))
    for down, right in sorted(product(*steps), key=np.prod):
        found = all_pieces(places, shape, (down, right))
        if found:
            return Mosaic((height, width, count), tuple(found))
    return None


def phases(size: int) -> list[int]:
    """Return how far apart the lines of a grid may lie, on an axis of some size: all lines may be
    grids of their own, as where tokens become the rows of a map."""
    return [s for s in range(1, MOST_PIECES + 1) if size % s == 0 and s in (*CLOSE, size)]


def raster(shape: Shape) -> Mosaic:
    """Return the mosaic of a map's pixels in raster order, as one column."""
    height, width, channels = shape
    count, steps, ones = (height, 1, channels), (width, 1, 1), (1, 1, 1)
    pieces = (Piece(0, count, (x, 0, 0), steps, (0, x, 0), ones) for x in range(width))
    return Mosaic((height * width, 1, channels), tuple(pieces))


def all_pieces(places: np.ndarray, shape: Shape, step: tuple[int, int]) -> list[Piece]:
    """Return the pieces of all grids of one step, none where a grid has none, or all have many."""
    found: list[Piece] = []
    for first in product(*map(range, step)):
        pieces = pieces_of(places, shape, first, step)
        found += pieces
        if not pieces or len(found) > MOST_PIECES:
            return []
    return found


def pieces_of(
    places: np.ndarray, shape: Shape, first: tuple[int, ...], step: tuple[int, int]
) -> list[Piece]:
    """Return the pieces of a grid of the result, none where a channel is no crossing."""
    height, width, _ = shape
    grid = places[:, first[0] :: step[0], first[1] :: step[1]]
    channels = grid[:, 0, 0] // (height * width)
    rows, columns = grid[:, :, 0] // width % height, grid[:, 0] % width
    known = (channels[:, None, None] * height + rows[:, :, None]) * width + columns[:, None]
    if (known != grid).any():
        return []
    pieces = []
    lines, members = np.unique(np.concatenate([rows, columns], 1), axis=0, return_inverse=True)
    if len(lines) > MOST_PIECES:
        return []
    for index, line in enumerate(lines):
        to = np.flatnonzero(members.ravel() == index)
        down, right = (lines_of(part.tolist()) for part in np.split(line, [rows.shape[1]]))
        for y, x, run in product(down, right, runs(to, channels[to])):
            count, places_to, steps_to, at, at_step = zip(y, x, run, strict=True)
            begin = (first[0] + places_to[0] * step[0], first[1] + places_to[1] * step[1])
            apart = (steps_to[0] * step[0], steps_to[1] * step[1])
            piece = Piece(0, count, (*begin, run[1]), (*apart, run[2]), at, at_step)
            pieces.append(piece)
    return pieces


def runs(to: np.ndarray, at: np.ndarray) -> list[tuple[int, int, int, int, int]]:
    """Return channels ``to`` of the result, which are ``at`` in the source, as lines of equal steps
    of both."""
    found, start = [], 0
    steps = np.stack([np.diff(to), np.diff(at)], 1)
    while start < len(to):
        stop = start + 1
        while stop < len(to) and (steps[stop - 1] == steps[start]).all():
            stop += 1
        to_step, at_step = steps[start] if stop - start > 1 else (1, 1)
        found.append((stop - start, int(to[start]), int(to_step), int(at[start]), int(at_step)))
        start = stop
    return found
