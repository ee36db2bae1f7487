"""Views: where the values of a torch tensor lie in the node that it views.

``places`` are as large as one image of the tensor and hold, for each value, its number in the map
of the node, counted channel by channel and row by row, as PyTorch does. Nothing is moved until an
operator reads the tensor; then it is the node itself, a selection of its channels and pixels, or a
mosaic.

A tensor has the channels of its node in dimension 1, as convolutions do, (c, h, w) or (c, h * w),
or in the last one, as linear layers on tokens do, (h, w, c), (h * w, c) or (..., c).
"""

from itertools import product
from math import prod

import numpy as np

from nupes.model.operators import Mosaic, Piece, Select
from nupes.quantizer.frontend.graph import Shape
from nupes.quantizer.frontend.lines import lines_of

__all__ = [
    "channel_order",
    "channels_first",
    "cross",
    "find_lines",
    "find_mosaic",
    "find_selection",
    "in_order",
    "is_permutation",
    "last_places",
    "own_places",
    "whole_channels",
    "without_repeats",
]


def own_places(shape: tuple[int, ...]) -> np.ndarray:
    """Return the places of a tensor of some shape, without its batch, that is the node itself."""
    return np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)


def in_order(places: np.ndarray, shape: Shape) -> bool:
    """Whether a view holds all values of a map (h, w, c) in their order."""
    height, width, channels = shape
    count = height * width * channels
    return places.size == count and bool((places.ravel() == np.arange(count)).all())


def is_permutation(places: np.ndarray, shape: Shape) -> bool:
    """Whether a view holds all values of a map (h, w, c), each once, in any order."""
    count = prod(shape)
    return places.size == count and bool((np.bincount(places.ravel(), minlength=count) == 1).all())


def channels_first(sizes: tuple[int, ...], shape: Shape) -> bool:
    """Whether a tensor of some sizes has a map's channels in dimension 1, if all is in order."""
    height, width, channels = shape
    return sizes in ((channels, height, width), (channels, height * width))


def last_places(sizes: tuple[int, ...], shape: Shape) -> np.ndarray | None:
    """Return the places of a tensor of some sizes that is a map (h, w, c) with its channels in the
    last dimension and its pixels in the others, ``None`` where sizes are others."""
    height, width, channels = shape
    if not sizes or sizes[-1] != channels or prod(sizes[:-1]) != height * width:
        return None
    return own_places((channels, height * width)).T.reshape(sizes)


def channel_order(places: np.ndarray, shape: Shape) -> np.ndarray | None:
    """Return the channel of a map (h, w, c) that each channel of a view is, where it holds all of
    them once and every pixel in its place; else ``None``."""
    height, width, channels = shape
    if not channels_first(places.shape, shape):
        return None
    op = find_selection(places.reshape(channels, height, width), shape)
    if op is None or sorted(op.channels) != list(range(channels)):
        return None
    return np.array(op.channels)


def find_lines(
    places: np.ndarray, shape: Shape
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the channels, rows and columns of a map (h, w, c) whose crossings have these places
    (n, h, w), ``None`` where places are no such grid."""
    height, width, _ = shape
    channels = places[:, 0, 0] // (height * width)
    rows = places[0, :, 0] // width % height
    columns = places[0, 0] % width
    grid = (channels[:, None, None] * height + rows[:, None]) * width + columns
    return (channels, rows, columns) if (places == grid).all() else None


def find_selection(places: np.ndarray, shape: Shape) -> Select | None:
    """Return the selection from a map (h, w, c) that has these places (n, h, w), ``None`` where
    none has."""
    lines = find_lines(places, shape)
    if lines is None:
        return None
    steps, padding = [], []
    for taken, size in zip(lines[1:], shape[:2], strict=True):
        step = int(taken[1] - taken[0]) if len(taken) > 1 else 1
        if step < 1 or not (np.diff(taken) == step).all():
            return None
        first, last = int(taken[0]), int(taken[-1])
        steps.append(step)
        padding += [-first, last + 1 - size if last + step < size or step == 1 else 0]
    stride = steps[0], steps[1]
    sides = padding[0], padding[1], padding[2], padding[3]
    return Select(tuple(lines[0].tolist()), stride, sides)


def find_mosaic(places: np.ndarray, shape: Shape) -> Mosaic | None:
    """Return the mosaic of a map (h, w, c) that has these places (n, h, w): rows, columns and
    channels in any order, as often as wanted; ``None`` where none has."""
    lines = find_lines(places, shape)
    return None if lines is None else cross(*lines)


def cross(channels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Mosaic:
    """Return the mosaic of the crossings of a map's channels, rows and columns, by number."""
    pieces = []
    for lines in product(*(lines_of(axis.tolist()) for axis in (rows, columns, channels))):
        count, to, to_step, at, at_step = zip(*lines, strict=True)
        pieces.append(Piece(0, count, to, to_step, at, at_step))
    return Mosaic((len(rows), len(columns), len(channels)), tuple(pieces))


def without_repeats(places: np.ndarray) -> np.ndarray:
    """Return an array with a size of 1 along each axis along which it only repeats itself."""
    for axis in range(places.ndim):
        first = places.take([0], axis)
        places = first if (places == first).all() else places
    return places


def whole_channels(places: np.ndarray, shape: Shape, ordered: bool = True) -> np.ndarray | None:
    """Return which channels of a map (h, w, c) lists of places (k, values) are, (k, n), ``None``
    where they are not whole channels with every pixel in its place, or, if they need not be
    ``ordered``, anywhere."""
    pixels = shape[0] * shape[1]
    if places.shape[1] % pixels:
        return None
    grid = places.reshape(len(places), -1, pixels)
    if not ordered:
        grid = np.sort(grid, axis=2)
    channels = grid[:, :, 0] // pixels
    same = (grid == channels[:, :, None] * pixels + np.arange(pixels)).all()
    return channels if same else None
