"""Sums over windows."""

from nupes.model.operators import AveragePool
from tests.model.reference.windows import Map, windows

__all__ = ["sums"]


def sums(op: AveragePool, levels: Map) -> Map:
    """Return the sum of every window; what lies outside the map is 0."""
    channels = range(len(levels[0][0]))
    return [
        [[sum(levels[y][x][c] for _, _, y, x in taps) for c in channels] for taps in row]
        for row in windows(op, levels)
    ]
