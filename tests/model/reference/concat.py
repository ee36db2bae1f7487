"""Concatenation of codes."""

from nupes.model.operators import Concat
from tests.model.reference.windows import Map

__all__ = ["codes"]


def codes(op: Concat, *sources: Map) -> Map:
    """Return the channels of all sources, pixel by pixel."""
    first = sources[0]
    return [
        [[code for source in sources for code in source[y][x]] for x in range(len(first[0]))]
        for y in range(len(first))
    ]
