"""Max pooling, on codes: they are sorted like the values that they stand for."""

from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.window import (
    Padding,
    Window,
    check_window,
    pad_levels,
    tap_slices,
    window_sizes,
    window_words,
)
from nupes.model.tensor import Shape

__all__ = ["MaxPool"]


@dataclass(frozen=True)
class MaxPool(Window):
    """Maximum of codes over a window; padding taps are skipped."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    kind: ClassVar[str] = "max_pool"
    copies: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse sizes out of their ranges."""
        check_window(self)

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the result; refuse a window of nothing but padding."""
        ((height, width, channels),) = inputs
        sizes = window_sizes(self, height, width)
        for axis, (before, _) in enumerate((self.padding[:2], self.padding[2:])):
            starts = np.arange(sizes[axis]) * self.stride[axis] - before
            # The first tap that does not lie before the map.
            tap = -(np.minimum(starts, 0) // self.dilation[axis])
            place = starts + tap * self.dilation[axis]
            if not ((tap < self.kernel[axis]) & (place < (height, width)[axis])).all():
                raise InputError("every max-pool window must hold a real tap; reduce its padding")
        return *sizes, channels

    def copy(self, *codes: np.ndarray) -> np.ndarray:
        """Return the maximum code over each window."""
        (source,) = codes
        oh, ow, _ = self.shape(source.shape[1:])
        # -1 loses against every code.
        padded = pad_levels(source.astype(np.int16), self.padding, -1)
        taps = (padded[:, ys, xs] for ys, xs in tap_slices(self, oh, ow))
        return reduce(np.maximum, taps).astype(np.uint8)

    def words(self, *inputs: Shape) -> str:
        """Return window, stride and dilation in words."""
        return " ".join(["max pool", "x".join(map(str, self.kernel)), *window_words(self)])
