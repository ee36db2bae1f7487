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
"""Padding as (top, bottom, left, right); negative padding takes away rows and columns."""


class Window(Operator):
    """An operator that walks over a map of one input; pairs are (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]


def check_window(window: Window) -> None:
    """Refuse a window whose numbers are no sizes; padding may be negative."""
    check_numbers(
        kernel=(window.kernel, 2, 1),
        stride=(window.stride, 2, 1),
        dilation=(window.dilation, 2, 1),
        padding=(window.padding, 4, -LARGEST),
    )


def window_sizes(window: Window, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of results over a map of these sizes; refuse a window that does
    not fit, and crops that leave nothing."""
    sizes = []
    for axis, whole in enumerate((height, width)):
        sides = window.padding[2 * axis : 2 * axis + 2]
        if sum(max(-side, 0) for side in sides) >= whole:
            raise InputError(f"a crop must leave some of {whole} (axis {'hw'[axis]})")
        size = whole + sum(sides)
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
    """Pad a map (b, h, w, c) with level 0 (a structural zero, whatever the codebook holds), or
    another one, and crop it."""
    if not any(padding):
        return levels
    top, bottom, left, right = (max(-side, 0) for side in padding)
    levels = levels[:, top : levels.shape[1] - bottom, left : levels.shape[2] - right]
    top, bottom, left, right = (max(side, 0) for side in padding)
    batch, height, width, channels = levels.shape
    shape = (batch, top + height + bottom, left + width + right, channels)
    padded = np.full(shape, level, levels.dtype)
    padded[:, top : top + height, left : left + width] = levels
    return padded


def window_words(window: Window) -> list[str]:
    """Return stride and dilation in words, where they are not 1."""
    words = []
    for name, pair in (("stride", window.stride), ("dilation", window.dilation)):
        if pair != (1, 1):
            words.append(f"{name} {pair[0] if pair[0] == pair[1] else 'x'.join(map(str, pair))}")
    return words
