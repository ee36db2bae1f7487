"""Selection of channels and pixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.codebook import Codebook
from nupes.model.errors import InputError
from nupes.model.operators.operator import LARGEST, check_numbers, is_integer
from nupes.model.operators.window import (
    Padding,
    Window,
    check_window,
    tap_slices,
    window_sizes,
    window_words,
)
from nupes.model.tensor import Shape

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(Window):
    """Copy channels: output channel ``c`` is input channel ``c - offset`` where that exists, else
    exactly 0.

    With stride 1, offset 0 and all channels it is the identity that carries an add of two stored
    tensors; with a stride and an offset it is the parameter-free shortcut of CIFAR ResNets.
    """

    channels: int
    offset: int = 0
    stride: tuple[int, int] = (1, 1)

    kind: ClassVar[str] = "select"
    kernel: ClassVar[tuple[int, int]] = (1, 1)
    padding: ClassVar[Padding] = (0, 0, 0, 0)
    dilation: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Refuse sizes out of their ranges."""
        check_window(self)
        check_numbers(channels=(self.channels, 1, 1))
        if not is_integer(self.offset) or abs(self.offset) > LARGEST:
            raise InputError(
                f"offset must be an integer in -{LARGEST}..{LARGEST}, not {self.offset}"
            )

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, channels) of the result."""
        ((height, width, _),) = inputs
        return *window_sizes(self, height, width), self.channels

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the levels that are copied, as they are."""
        (source,) = levels
        oh, ow, _ = self.shape(source.shape[1:])
        ((ys, xs),) = tap_slices(self, oh, ow)
        out = np.zeros((len(source), oh, ow, self.channels), np.int32)
        first, last = max(self.offset, 0), min(self.offset + source.shape[3], self.channels)
        if first < last:
            out[..., first:last] = source[:, ys, xs, first - self.offset : last - self.offset]
        return out

    def bound(self, *codebooks: Codebook) -> int:
        """Return the largest magnitude of a level."""
        (book,) = codebooks
        return int(np.abs(book.levels).max())

    def words(self, *inputs: Shape) -> str:
        """Return the stride in words."""
        return " ".join(["copy", *window_words(self)])
