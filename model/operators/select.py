"""Selection of channels and pixels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import LARGEST, is_integer
from nupes.model.operators.window import (
    Padding,
    Window,
    check_window,
    pad_levels,
    tap_slices,
    window_sizes,
    window_words,
)
from nupes.model.tensor import Ends, Shape

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(Window):
    """Copy channels and pixels: output channel ``n`` is input channel ``channels[n]``, or exactly 0
    where that is -1; negative padding crops the map.

    All channels in their order with stride 1 are the identity, which carries an add of two stored
    tensors; with a stride and channels of 0 it is the parameter-free shortcut of CIFAR ResNets;
    slices, crops, and shuffles of channels are others.
    """

    channels: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    kind: ClassVar[str] = "select"
    kernel: ClassVar[tuple[int, int]] = (1, 1)
    dilation: ClassVar[tuple[int, int]] = (1, 1)

    @classmethod
    def every(cls, channels: int) -> Self:
        """Return the selection of all of so many channels and of all pixels."""
        return cls(tuple(range(channels)))

    @classmethod
    def of(cls, channels: Iterable[int] | np.ndarray) -> Self:
        """Return the selection of some channels, by number, of all pixels."""
        return cls(tuple(int(channel) for channel in channels))

    @property
    def first(self) -> int | None:
        """The first channel, where channels follow one another and every pixel is copied; else
        ``None``."""
        first, count = self.channels[0], len(self.channels)
        plain = first >= 0 and self.stride == (1, 1) and not any(self.padding)
        return first if plain and self.channels == tuple(range(first, first + count)) else None

    def matrix(self, channels: int) -> np.ndarray:
        """Return what is copied of so many channels: 1, else 0, uint8 (channels, n)."""
        return (np.arange(channels)[:, None] == np.array(self.channels)).astype(np.uint8)

    def check(self) -> None:
        """Refuse sizes and channels out of their ranges."""
        check_window(self)
        if not 1 <= len(self.channels) <= LARGEST:
            raise InputError(
                f"a selection must be of 1 to {LARGEST} channels, not {len(self.channels)}"
            )
        for channel in self.channels:
            if not is_integer(channel) or not -1 <= channel < LARGEST:
                raise InputError(
                    f"selected channels must be integers in -1..{LARGEST - 1}, not {channel}"
                )

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, n) of the result; refuse channels that the map does not have."""
        ((height, width, channels),) = inputs
        if max(self.channels) >= channels:
            raise InputError(
                f"selected channels must lie in the input's {channels}, not be {max(self.channels)}"
            )
        return *window_sizes(self, height, width), len(self.channels)

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the levels that are copied, as they are."""
        (source,) = levels
        oh, ow, n = self.shape(source.shape[1:])
        ((ys, xs),) = tap_slices(self, oh, ow)
        pixels = pad_levels(source, self.padding)[:, ys, xs]
        if self.first is not None:
            return pixels[..., self.first : self.first + n].astype(np.int32)
        out = pixels.take(np.maximum(self.channels, 0), axis=3).astype(np.int32)
        out[..., np.array(self.channels) < 0] = 0
        return out

    def bound(self, *ends: Ends) -> int:
        """Return the largest magnitude of a level."""
        ((low, high),) = ends
        return max(abs(low), abs(high))

    def words(self, *inputs: Shape) -> str:
        """Return what is copied in words, and the stride."""
        ((_, _, channels),) = inputs
        words = ["copy"]
        if self.channels != tuple(range(channels)):
            words.append("channels")
        if min(self.padding) < 0:
            words.append("cropped")
        return " ".join([*words, *window_words(self)])
