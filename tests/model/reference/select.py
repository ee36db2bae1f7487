"""Selection of channels and pixels."""

from nupes.model.operators import Select
from tests.model.reference.windows import Map, windows

__all__ = ["levels"]


def levels(op: Select, source: Map) -> Map:
    """Return the levels that are copied; channels that do not exist, and padding, are 0."""
    return [
        [
            [source[tap[0][2]][tap[0][3]][c] if tap and c >= 0 else 0 for c in op.channels]
            for tap in row
        ]
        for row in windows(op, source)
    ]
