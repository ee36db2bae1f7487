"""Windows over a map: the taps that a convolution or a pool reads for each of its results."""

from collections.abc import Iterator

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import LARGEST, Operator, check_numbers

__all__ = [
    "Padding",
    "Window",
    "check_window",
    "pad_levels",
    "tap_slices",
    "window_sizes",
    "window_words",
]

Padding = tuple[int, int, int, int]
"""Padding as (top, bottom, left, right); negative where rows or columns are cut off."""


class Window(Operator):
    """An operator that walks over a map of one input; pairs are (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]


def check_window(window: Window) -> None:
    """Refuse a window whose numbers are no sizes."""
    check_numbers(
        kernel=(window.kernel, 2, 1),
        stride=(window.stride, 2, 1),
        dilation=(window.dilation, 2, 1),
        padding=(window.padding, 4, -LARGEST),
    )


def window_sizes(window: Window, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of results over a map of these sizes."""
    top, bottom, left, right = window.padding
    sizes = []
    for axis, size in enumerate((height + top + bottom, width + left + right)):
        extent = window.dilation[axis] * (window.kernel[axis] - 1) + 1
        if extent > size:
            raise InputError(
                f"window of {extent} must fit the padded input of {size} (axis {'hw'[axis]})"
            )
        sizes.append((size - extent) // window.stride[axis] + 1)
    return sizes[0], sizes[1]


def tap_slices(window: Window, oh: int, ow: int) -> Iterator[tuple[slice, slice]]:
    """Yield, rows first, the slices of a padded map that each tap reads for all oh x ow results."""
    sy, sx = window.stride
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y0, x0 = ky * window.dilation[0], kx * window.dilation[1]
            yield slice(y0, y0 + (oh - 1) * sy + 1, sy), slice(x0, x0 + (ow - 1) * sx + 1, sx)


def pad_levels(levels: np.ndarray, padding: Padding, level: int = 0) -> np.ndarray:
    """Pad a map (b, h, w, c), or cut it, with level 0 (a structural zero, whatever the codebook
    holds), or another one."""
    top, bottom, left, right = padding
    if not any(padding):
        return levels
    batch, height, width, channels = levels.shape
    shape = (batch, top + height + bottom, left + width + right, channels)
    padded = np.full(shape, level, levels.dtype)
    kept = levels[:, max(-top, 0) : height - max(-bottom, 0)]
    kept = kept[:, :, max(-left, 0) : width - max(-right, 0)]
    top, left = max(top, 0), max(left, 0)
    padded[:, top : top + kept.shape[1], left : left + kept.shape[2]] = kept
    return padded


def window_words(window: Window) -> list[str]:
    """Return stride and dilation in words, where they are not 1."""
    words = []
    for name, pair in (("stride", window.stride), ("dilation", window.dilation)):
        if pair != (1, 1):
            words.append(f"{name} {pair[0] if pair[0] == pair[1] else 'x'.join(map(str, pair))}")
    return words
