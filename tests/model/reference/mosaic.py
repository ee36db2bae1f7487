"""Pieces of maps at their places."""

from itertools import product

from nupes.model.operators import Mosaic
from tests.model.reference.windows import Map

__all__ = ["codes"]


def codes(op: Mosaic, *sources: Map) -> Map:
    """Return a map into which each piece is copied value by value."""
    height, width, channels = op.size
    result = [[[-1] * channels for _ in range(width)] for _ in range(height)]
    for piece in op.pieces:
        for place in product(*map(range, piece.count)):
            y, x, c = (
                piece.to[axis] + index * piece.to_step[axis] for axis, index in enumerate(place)
            )
            row, column, channel = (
                piece.at[axis] + index * piece.at_step[axis] for axis, index in enumerate(place)
            )
            result[y][x][c] = sources[piece.source][row][column][channel]
    return result
