"""Where the values of a mosaic come from."""

from collections.abc import Sequence

import numpy as np

from nupes.model.operators import Mosaic
from nupes.model.tensor import Shape

__all__ = ["numbers_of"]


def numbers_of(op: Mosaic, shapes: Sequence[Shape]) -> np.ndarray:
    """Return which number of the inputs (h, w, c), each in the order channel, row, column, one
    after another, each value of a mosaic is: int32 (channels * rows * columns,), in that order."""
    maps, first = [], 0
    for height, width, channels in shapes:
        count = height * width * channels
        numbers = np.arange(first, first + count, dtype=np.int32)
        maps.append(numbers.reshape(1, channels, height, width).transpose(0, 2, 3, 1))
        first += count
    return op.copy(*maps)[0].transpose(2, 0, 1).ravel()
