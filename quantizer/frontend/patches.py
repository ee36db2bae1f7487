"""Patches: views whose tokens are windows of a map, written as reshapes and permutations. A linear
layer on them is a convolution."""

from typing import NamedTuple

import numpy as np

from nupes.model.operators import Padding
from nupes.quantizer.frontend.graph import Shape

__all__ = ["Patches", "find_patches"]


class Patches(NamedTuple):
    """Windows of a map, ``size`` (rows, columns) of them in raster order; feature f of each is
    (channel, row, column) ``taps[:, f]`` of its window."""

    taps: np.ndarray
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    size: tuple[int, int]

    def weight(self, matrix: np.ndarray, channels: int) -> np.ndarray:
        """Return the weights (n, channels, kh, kw) of a convolution from those of features."""
        found = np.zeros((len(matrix), channels, *self.kernel), matrix.dtype)
        found[:, self.taps[0], self.taps[1], self.taps[2]] = matrix
        return found


def find_patches(places: np.ndarray, shape: Shape) -> Patches | None:
    """Return the patches of a map (h, w, c) that have these places (tokens, features), ``None``
    where places are no windows in raster order."""
    height, width, _ = shape
    channel, y, x = places // (height * width), places // width % height, places % width
    top, left = int(y[0].min()), int(x[0].min())
    taps = np.stack([channel[0], y[0] - top, x[0] - left])
    down, right = y[:, 0] - y[0, 0], x[:, 0] - x[0, 0]
    moved = (channel == channel[0]).all() and (y - y[0] == down[:, None]).all()
    if not moved or not (x - x[0] == right[:, None]).all():
        return None
    rows, columns = np.unique(down), np.unique(right)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=2).reshape(-1, 2)
    even = all((np.diff(axis) == np.diff(axis[:2])).all() for axis in (rows, columns))
    once = len(np.unique(taps, axis=1).T) == len(taps.T)
    if not (even and once and np.array_equal(grid, np.stack([down, right], axis=1))):
        return None
    kernel = int(taps[1].max()) + 1, int(taps[2].max()) + 1
    stride = tuple(
        int(axis[1]) if len(axis) > 1 else k
        for axis, k in zip((rows, columns), kernel, strict=True)
    )
    bottom, end = top + int(rows[-1]) + kernel[0], left + int(columns[-1]) + kernel[1]
    padding = -top, bottom - height, -left, end - width
    return Patches(taps, kernel, (stride[0], stride[1]), padding, (len(rows), len(columns)))
