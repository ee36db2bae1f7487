"""Convolution; linear layers too, as a convolution whose kernel is the whole map."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nupes.model.arithmetic import exact_float, exact_matmul
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError
from nupes.model.operators.operator import check_numbers
from nupes.model.operators.window import (
    Padding,
    Window,
    check_window,
    pad_levels,
    tap_slices,
    window_sizes,
    window_words,
)
from nupes.model.stored import Float64Vector, PackedCodes
from nupes.model.tensor import Ends, Shape

__all__ = ["Conv"]


@dataclass(frozen=True, eq=False)
class Conv(Window):
    """Sum of products of weights and levels over a window, in groups.

    ``codes`` (n, c // groups, kh, kw) uint8 index ``codebook``; ``scale`` (n,) float64 is metadata:
    the real value of a weight is ``scale[n] * levels[code]``. The arrays must not change once the
    operator has run: it keeps what it derives from them.
    """

    codes: PackedCodes
    codebook: Codebook
    scale: Float64Vector
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    kind: ClassVar[str] = "conv"

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width in taps."""
        return self.codes.shape[2], self.codes.shape[3]

    @property
    def levels(self) -> np.ndarray:
        """Weight levels, int16 of the shape of ``codes``."""
        return self.codebook.levels[self.codes]

    @property
    def depthwise(self) -> bool:
        """Whether each group has one input channel."""
        return self.groups > 1 and self.codes.shape[1] == 1

    @cached_property
    def matrices(self) -> np.ndarray:
        """Weight levels as the product takes them: float32 (groups, kh * kw * c // groups, n //
        groups)."""
        levels = self.levels.astype(np.float32)
        n = len(levels) // self.groups
        rows = levels.reshape(self.groups, n, *levels.shape[1:]).transpose(0, 3, 4, 2, 1)
        return np.ascontiguousarray(rows).reshape(self.groups, -1, n)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the positive and of the negative weights of each output channel, int64 (n,)."""
        levels, axes = self.levels, (1, 2, 3)
        positive = np.maximum(levels, 0).sum(axis=axes, dtype=np.int64)
        return positive, np.minimum(levels, 0).sum(axis=axes, dtype=np.int64)

    @cached_property
    def gain(self) -> int:
        """Largest sum of weight magnitudes of an output channel: what an accumulator can reach for
        levels of magnitude 1."""
        positive, negative = self.sums
        return int((positive - negative).max())

    def check(self) -> None:
        """Refuse codes, levels and sizes out of their ranges."""
        if self.codes.dtype != np.uint8 or self.codes.ndim != 4 or self.codes.size == 0:
            raise InputError(
                f"weight codes must be uint8 of shape (n, c, kh, kw), "
                f"not {self.codes.dtype} of shape {self.codes.shape}"
            )
        check_window(self)
        check_numbers(groups=(self.groups, 1, 1))
        if len(self.codes) % self.groups:
            raise InputError(f"{len(self.codes)} channels must divide in {self.groups} groups")
        if not self.codebook.is_weight:
            raise InputError(
                f"weight levels must fit signed 8 bits, not {self.codebook.levels[[0, -1]]}"
            )
        if self.codes.max() >= len(self.codebook):
            raise InputError(f"weight codes must be below {len(self.codebook)}")
        if self.scale.shape != (len(self.codes),) or self.scale.dtype != np.float64:
            raise InputError(
                f"weight scale must be float64 of shape ({len(self.codes)},), not "
                f"{self.scale.dtype} of shape {self.scale.shape}"
            )
        if not np.isfinite(self.scale).all():
            raise InputError("weight scale must be finite numbers")

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, n) of the result."""
        ((height, width, channels),) = inputs
        sizes = window_sizes(self, height, width)
        expected = self.codes.shape[1] * self.groups
        if expected != channels:
            raise InputError(f"convolution expects {expected} input channels, not {channels}")
        return *sizes, len(self.codes)

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return one exact product of gathered patches and weights per group."""
        (source,) = levels
        if bound is None:
            bound = self.gain * int(np.abs(source).max(initial=0))
        oh, ow = window_sizes(self, *source.shape[1:3])
        padded = pad_levels(source, self.padding)
        if self.depthwise:
            return self._convolve_depthwise(padded, bound, oh, ow)
        return self._convolve(padded, bound, oh, ow)

    def _convolve(self, padded: np.ndarray, bound: int, oh: int, ow: int) -> np.ndarray:
        batch, (n, per_group, kh, kw) = len(padded), self.codes.shape
        (sy, sx), (dy, dx) = self.stride, self.dilation
        extent = (dy * (kh - 1) + 1, dx * (kw - 1) + 1)
        windows = sliding_window_view(padded, extent, (1, 2))[:, ::sy, ::sx, :, ::dy, ::dx]
        windows = windows.transpose(0, 1, 2, 4, 5, 3)  # b, oh, ow, kh, kw, c
        outputs = []
        for group, matrix in enumerate(self.matrices):
            patches = windows[..., group * per_group : (group + 1) * per_group]
            # A window's columns and channels lie side by side in memory: one copy of long runs.
            rows = np.ascontiguousarray(patches).reshape(batch * oh * ow, kh * kw * per_group)
            outputs.append(exact_matmul(rows, matrix, bound))
        out = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)
        return out.reshape(batch, oh, ow, n)

    def _convolve_depthwise(self, padded: np.ndarray, bound: int, oh: int, ow: int) -> np.ndarray:
        """Multiply and add, tap by tap; exact like ``exact_matmul``."""
        multiplier = len(self.codes) // self.groups
        dtype = exact_float(bound)
        weights = self.levels[:, 0].astype(dtype)
        out = np.zeros((len(padded), oh, ow, len(weights)), dtype)
        for tap, (ys, xs) in enumerate(tap_slices(self, oh, ow)):
            ky, kx = divmod(tap, self.kernel[1])
            level = padded[:, ys, xs].astype(dtype, copy=False)
            if multiplier > 1:
                level = np.repeat(level, multiplier, axis=3)
            out += level * weights[:, ky, kx]
        return out.astype(np.int32 if bound < 2**31 else np.int64)

    def bound(self, *ends: Ends) -> int:
        """Return the larger of the sums of all positive and of all negative products: no partial
        sum lies beyond them."""
        ((lowest, highest),) = ends
        low, high = min(lowest, 0), max(highest, 0)
        positive, negative = self.sums
        products = (positive * high + negative * low, -positive * low - negative * high)
        return int(np.max(products))

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates for one image."""
        height, width, _ = self.shape(*inputs)
        return height * width * self.codes.size

    def words(self, *inputs: Shape) -> str:
        """Return kind, kernel, stride, dilation and groups in words."""
        ((height, width, _),) = inputs
        if self.kernel == (height, width) and self.groups == 1 and not any(self.padding):
            return "linear"
        words = ["depthwise" if self.depthwise else "conv"]
        if self.groups > 1 and not self.depthwise:
            words.append(f"groups {self.groups}")
        return " ".join([*words, "x".join(map(str, self.kernel)), *window_words(self)])
