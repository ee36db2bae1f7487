"""Maxima of codes."""

from nupes.model.operators import MaxPool
from tests.model.reference.windows import Map, windows

__all__ = ["codes"]


def codes(op: MaxPool, source: Map) -> Map:
    """Return the maximum of every window; what lies outside the map does not count."""
    channels = range(len(source[0][0]))
    return [
        [[max(source[y][x][c] for _, _, y, x in taps) for c in channels] for taps in row]
        for row in windows(op, source)
    ]
