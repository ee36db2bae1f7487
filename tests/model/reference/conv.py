"""Convolution, weight by weight."""

from nupes.model.operators import Conv
from tests.model.reference.windows import Map, Tap, windows

__all__ = ["sums"]


def sums(op: Conv, levels: Map) -> Map:
    """Return the sum of the products of every window."""
    table = [int(level) for level in op.codebook.levels]
    outputs, per_group = op.codes.shape[0], op.codes.shape[1]

    def pixel(taps: list[Tap]) -> list[int]:
        found = []
        for n in range(outputs):
            first = n // (outputs // op.groups) * per_group
            found.append(
                sum(
                    table[int(op.codes[n, c, ky, kx])] * levels[y][x][first + c]
                    for ky, kx, y, x in taps
                    for c in range(per_group)
                )
            )
        return found

    return [[pixel(taps) for taps in row] for row in windows(op, levels)]
