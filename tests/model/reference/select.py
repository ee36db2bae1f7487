"""Selection of channels and pixels."""

from nupes.model.operators import Select
from tests.model.reference.windows import Map, windows

__all__ = ["levels"]


def levels(op: Select, source: Map) -> Map:
    """Return the levels that are copied; channels that do not exist are 0."""
    channels = len(source[0][0])
    wanted = [n - op.offset for n in range(op.channels)]
    return [
        [[source[y][x][c] if 0 <= c < channels else 0 for c in wanted] for ((_, _, y, x),) in row]
        for row in windows(op, source)
    ]
