"""The operators of an integer network: frozen descriptions, and what each computes on arrays of
levels or codes.

Feature maps are NHWC (channels innermost, as in the activation memory). ``accumulate`` returns the
exact accumulator of an operator; ``max_pool`` works on codes, which are sorted like the values they
stand for.
"""

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nupes.model.arithmetic import exact_float, exact_matmul
from nupes.model.codebook import Codebook
from nupes.model.errors import InputError

__all__ = [
    "AveragePool",
    "Conv",
    "MaxPool",
    "Operator",
    "Padding",
    "Select",
    "accumulate",
    "max_pool",
    "output_shape",
]

Padding = tuple[int, int, int, int]
"""Zero padding as (top, bottom, left, right)."""


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution (also linear layers, as a convolution whose kernel is the whole map).

    ``codes`` (n, c // groups, kh, kw) uint8 index ``codebook``; ``scale`` (n,) float64 is metadata:
    the real value of a weight is ``scale[n] * levels[code]``. The arrays must not change once the
    operator has run: it keeps what it derives from them.
    """

    codes: np.ndarray
    codebook: Codebook
    scale: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width in taps."""
        return self.codes.shape[2], self.codes.shape[3]

    @property
    def levels(self) -> np.ndarray:
        """Weight levels, int16 of the shape of ``codes``."""
        return self.codebook.levels[self.codes]

    @cached_property
    def matrices(self) -> np.ndarray:
        """Weight levels as the product takes them: float32 (groups, kh * kw * c // groups, n //
        groups)."""
        levels = self.levels.astype(np.float32)
        n = len(levels) // self.groups
        rows = levels.reshape(self.groups, n, *levels.shape[1:]).transpose(0, 3, 4, 2, 1)
        return np.ascontiguousarray(rows).reshape(self.groups, -1, n)

    @cached_property
    def gain(self) -> int:
        """Largest sum of weight magnitudes of an output channel: what an accumulator can reach for
        levels of magnitude 1."""
        return int(np.abs(self.levels.astype(np.int64)).sum(axis=(1, 2, 3)).max())


@dataclass(frozen=True)
class AveragePool:
    """Sum over a window; the divisor is folded in the requantization. Padding counts as level 0."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)
    dilation = (1, 1)


@dataclass(frozen=True)
class Select:
    """Copy channels: output channel ``c`` is input channel ``c - offset`` where that exists, else
    exactly 0.

    With stride 1, offset 0 and all channels it is the identity that carries an add of two stored
    tensors; with a stride and an offset it is the parameter-free shortcut of CIFAR ResNets.
    """

    channels: int
    offset: int = 0
    stride: tuple[int, int] = (1, 1)
    kernel = (1, 1)
    padding = (0, 0, 0, 0)
    dilation = (1, 1)


@dataclass(frozen=True)
class MaxPool:
    """Maximum of codes over a window; padding taps are skipped."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)


Operator = Conv | AveragePool | Select | MaxPool


def output_shape(op: Operator, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the (h, w, c) of an operator's output for an input of (h, w, c)."""
    height, width, channels = shape
    top, bottom, left, right = op.padding
    sizes = []
    for axis, size in enumerate((height + top + bottom, width + left + right)):
        extent = op.dilation[axis] * (op.kernel[axis] - 1) + 1
        if extent > size:
            raise InputError(
                f"window of {extent} must fit the padded input of {size} (axis {'hw'[axis]})"
            )
        sizes.append((size - extent) // op.stride[axis] + 1)
    if isinstance(op, Conv):
        per_group = op.codes.shape[1]
        if per_group * op.groups != channels:
            raise InputError(
                f"convolution expects {per_group * op.groups} input channels, not {channels}"
            )
        channels = op.codes.shape[0]
    elif isinstance(op, Select):
        channels = op.channels
    return sizes[0], sizes[1], channels


def tap_slices(op: Operator, ky: int, kx: int, oh: int, ow: int) -> tuple[slice, slice]:
    """Return the slices of a padded input that tap (ky, kx) reads for all oh x ow output pixels."""
    y0, x0 = ky * op.dilation[0], kx * op.dilation[1]
    sy, sx = op.stride
    return slice(y0, y0 + (oh - 1) * sy + 1, sy), slice(x0, x0 + (ow - 1) * sx + 1, sx)


def pad_levels(levels: np.ndarray, padding: Padding) -> np.ndarray:
    """Pad an NHWC array with level 0 (a structural zero, whatever the codebook holds)."""
    top, bottom, left, right = padding
    if not any(padding):
        return levels
    batch, height, width, channels = levels.shape
    padded = np.zeros((batch, top + height + bottom, left + width + right, channels), levels.dtype)
    padded[:, top : top + height, left : left + width] = levels
    return padded


def accumulate(
    op: Conv | AveragePool | Select, levels: np.ndarray, largest: int | None = None
) -> np.ndarray:
    """Return the exact accumulator, int32 or int64 of shape (b, oh, ow, n), for input levels (b, h,
    w, c).

    ``levels`` are integers, or the same integers in float32. ``largest`` bounds their magnitude; it
    is taken from the array when not given.
    """
    oh, ow, channels = output_shape(op, levels.shape[1:])
    largest = int(np.abs(levels).max(initial=0)) if largest is None else largest
    padded = pad_levels(levels, op.padding)
    if isinstance(op, Conv):
        return convolve(op, padded, largest, oh, ow)
    if isinstance(op, AveragePool):
        taps = [padded[:, ys, xs] for ys, xs in taps_of(op, oh, ow)]
        return sum((tap.astype(np.int32) for tap in taps[1:]), taps[0].astype(np.int32))
    ys, xs = tap_slices(op, 0, 0, oh, ow)
    out = np.zeros((len(levels), oh, ow, channels), np.int32)
    first, last = max(op.offset, 0), min(op.offset + levels.shape[3], channels)
    if first < last:
        out[..., first:last] = levels[:, ys, xs, first - op.offset : last - op.offset]
    return out


def taps_of(op: Operator, oh: int, ow: int) -> list[tuple[slice, slice]]:
    """Return the slices of every tap of a window, rows first."""
    height, width = op.kernel
    return [tap_slices(op, ky, kx, oh, ow) for ky in range(height) for kx in range(width)]


def convolve(op: Conv, padded: np.ndarray, largest: int, oh: int, ow: int) -> np.ndarray:
    """Convolve padded levels: one exact product of gathered patches and weights per group."""
    batch, (n, per_group, kh, kw) = len(padded), op.codes.shape
    bound = op.gain * largest
    if per_group == 1 and op.groups > 1:
        return convolve_depthwise(op, padded, bound, oh, ow)
    (sy, sx), (dy, dx) = op.stride, op.dilation
    extent = (dy * (kh - 1) + 1, dx * (kw - 1) + 1)
    windows = sliding_window_view(padded, extent, (1, 2))[:, ::sy, ::sx, :, ::dy, ::dx]
    windows = windows.transpose(0, 1, 2, 4, 5, 3)  # b, oh, ow, kh, kw, c
    outputs = []
    for group, matrix in enumerate(op.matrices):
        patches = windows[..., group * per_group : (group + 1) * per_group]
        # A window's columns and channels lie side by side in memory: one copy of long runs.
        rows = np.ascontiguousarray(patches).reshape(batch * oh * ow, kh * kw * per_group)
        outputs.append(exact_matmul(rows, matrix, bound))
    out = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)
    return out.reshape(batch, oh, ow, n)


def convolve_depthwise(
    op: Conv, padded: np.ndarray, bound: int, oh: int, ow: int
) -> np.ndarray:  # fmt: skip
    """Convolve with one input channel per group: multiply and add, tap by tap; exact like
    ``exact_matmul``."""
    multiplier = len(op.codes) // op.groups
    dtype = exact_float(bound)
    weights = op.levels[:, 0].astype(dtype)
    out = np.zeros((len(padded), oh, ow, len(weights)), dtype)
    for tap, (ys, xs) in enumerate(taps_of(op, oh, ow)):
        ky, kx = divmod(tap, op.kernel[1])
        level = padded[:, ys, xs].astype(dtype, copy=False)
        if multiplier > 1:
            level = np.repeat(level, multiplier, axis=3)
        out += level * weights[:, ky, kx]
    return out.astype(np.int32 if bound < 2**31 else np.int64)


def max_pool(op: MaxPool, codes: np.ndarray) -> np.ndarray:
    """Return the maximum code over each window, skipping padding taps; uint8 (b, oh, ow, c) from
    (b, h, w, c)."""
    oh, ow, _ = output_shape(op, codes.shape[1:])
    top, bottom, left, right = op.padding
    # -1 loses against every code; a window of nothing but padding is refused when the network is
    # built.
    padded = np.pad(
        codes.astype(np.int16),
        ((0, 0), (top, bottom), (left, right), (0, 0)),
        constant_values=np.int16(-1),
    )
    taps = [padded[:, ys, xs] for ys, xs in taps_of(op, oh, ow)]
    return reduce(np.maximum, taps).astype(np.uint8)
