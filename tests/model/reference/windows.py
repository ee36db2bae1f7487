"""Maps as nested lists, and the taps of a window over them."""

from itertools import product

from nupes.model.operators import Window

__all__ = ["Map", "Tap", "windows"]

Map = list[list[list[int]]]
"""One image as nested lists [y][x][channel]."""

Tap = tuple[int, int, int, int]
"""Place in the kernel (ky, kx) and in the map (y, x)."""


def windows(op: Window, levels: Map) -> list[list[list[Tap]]]:
    """Return for each output pixel its taps that lie inside the map."""
    height, width = len(levels), len(levels[0])
    top, bottom, left, right = op.padding
    rows = []
    y = -top
    while y + op.dilation[0] * (op.kernel[0] - 1) < height + bottom:
        row = []
        x = -left
        while x + op.dilation[1] * (op.kernel[1] - 1) < width + right:
            taps = [
                (ky, kx, y + ky * op.dilation[0], x + kx * op.dilation[1])
                for ky, kx in product(range(op.kernel[0]), range(op.kernel[1]))
            ]
            row.append([t for t in taps if 0 <= t[2] < height and 0 <= t[3] < width])
            x += op.stride[1]
        rows.append(row)
        y += op.stride[0]
    return rows
