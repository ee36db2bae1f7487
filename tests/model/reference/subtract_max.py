"""Distances from the largest channel."""

from nupes.model.operators import SubtractMax
from tests.model.reference.windows import Map

__all__ = ["distances"]


def distances(op: SubtractMax, source: Map) -> Map:
    """Return each channel minus the largest one of its pixel; -32768 is minus infinity."""
    return [
        [[-65536 if value == -32768 else value - max(pixel) for value in pixel] for pixel in row]
        for row in source
    ]
