"""Transposed convolutions: each pixel of the map adds a kernel to the result."""

from itertools import product

from nupes.model.operators import TransposedConv
from tests.model.reference.windows import Map

__all__ = ["sums"]


def sums(op: TransposedConv, levels: Map) -> Map:
    """Return what all pixels add at each place of the result."""
    weights = op.levels.tolist()
    n, per_group = len(weights), len(weights[0])
    height, width, _ = op.shape((len(levels), len(levels[0]), len(levels[0][0])))
    result = [[[0] * n for _ in range(width)] for _ in range(height)]
    pixels = product(enumerate(levels), range(len(levels[0])))
    for (y, row), x in pixels:
        for ky, kx in product(range(op.kernel[0]), range(op.kernel[1])):
            top = y * op.stretch[0] - ky * op.dilation[0] + op.padding[0]
            left = x * op.stretch[1] - kx * op.dilation[1] + op.padding[2]
            (oy, down), (ox, right) = divmod(top, op.stride[0]), divmod(left, op.stride[1])
            if down or right or not (0 <= oy < height and 0 <= ox < width):
                continue
            for channel in range(n):
                first = channel // (n // op.groups) * per_group
                result[oy][ox][channel] += sum(
                    weights[channel][c][ky][kx] * row[x][first + c] for c in range(per_group)
                )
    return result
