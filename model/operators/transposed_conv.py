"""Transposed convolution: a convolution over a map whose pixels lie apart."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from nupes.model.operators.conv import Conv
from nupes.model.operators.operator import check_numbers
from nupes.model.tensor import Shape

__all__ = ["TransposedConv"]


@dataclass(frozen=True, eq=False)
class TransposedConv(Conv):
    """A convolution over the stretched map: its pixels lie ``stretch`` apart, with structural zeros
    between them; padding is that of the stretched map, and negative where it is cropped.

    PyTorch's ``ConvTranspose2d`` of stride s and padding p has stretch s, stride 1, padding
    ``dilation * (kernel - 1) - p``, and its kernel turned by half a turn.
    """

    stretch: tuple[int, int] = (1, 1)

    kind: ClassVar[str] = "transposed_conv"

    def check(self) -> None:
        """Refuse what a convolution refuses, and a stretch that is none."""
        super().check()
        check_numbers(stretch=(self.stretch, 2, 1))

    def stretched(self, shape: Shape) -> Shape:
        """Return the (h, w, c) of a map with ``stretch - 1`` zeros behind each row and column."""
        height, width, channels = shape
        return height * self.stretch[0], width * self.stretch[1], channels

    @cached_property
    def of_zeros(self) -> Conv:
        """The convolution of such a map that equals this one."""
        top, bottom, left, right = self.padding
        padding = (top, bottom - self.stretch[0] + 1, left, right - self.stretch[1] + 1)
        geometry = self.stride, padding, self.dilation, self.groups
        return Conv(self.codes, self.codebook, self.scale, *geometry)

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, n) of the result."""
        return self.of_zeros.shape(self.stretched(inputs[0]))

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the convolution of the stretched levels."""
        (source,) = levels
        spread = np.zeros((len(source), *self.stretched(source.shape[1:])), source.dtype)
        spread[:, :: self.stretch[0], :: self.stretch[1]] = source
        return self.of_zeros.accumulate(spread, bound=bound)

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates for one image, without those of zeros between pixels."""
        pairs = 1
        for axis, count in enumerate(self.shape(*inputs)[:2]):
            starts = np.arange(count) * self.stride[axis] - self.padding[2 * axis]
            taps = np.arange(self.kernel[axis]) * self.dilation[axis]
            pairs *= int(((starts[:, None] + taps) % self.stretch[axis] == 0).sum())
        return pairs * self.codes.shape[0] * self.codes.shape[1]

    def words(self, *inputs: Shape) -> str:
        """Return the convolution and the stretch in words."""
        sizes = "x".join(map(str, self.stretch))
        return f"transposed {super().words(self.stretched(inputs[0]))}, stretch {sizes}"
