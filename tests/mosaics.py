"""Random mosaics, for random networks."""

from collections.abc import Sequence
from itertools import product

from hypothesis import strategies as st

from nupes.model.operators import Mosaic, Piece
from nupes.model.tensor import Shape

__all__ = ["mosaics"]

Line = tuple[int, int, int]
"""Count, first and step along an axis."""


def lines(draw: st.DrawFn, size: int) -> list[Line]:
    """Draw lines that share an axis: every second or third place, or neighbours."""
    if draw(st.booleans()):
        step = draw(st.integers(1, min(3, size)))
        return [(-(-(size - first) // step), first, step) for first in range(step)]
    cut = draw(st.integers(1, size))
    return [(cut, 0, 1)] + ([(size - cut, cut, 1)] if cut < size else [])


def origin(draw: st.DrawFn, count: int, size: int) -> tuple[int, int]:
    """Draw where ``count`` values of an axis stand in an input: the first one, and the step."""
    first = draw(st.integers(0, size - 1))
    steps = [s for s in range(-2, 3) if 0 <= first + (count - 1) * s < size]
    return first, draw(st.sampled_from(steps))


@st.composite
def mosaics(draw: st.DrawFn, shapes: Sequence[Shape]) -> Mosaic:
    """Draw a mosaic of maps of these shapes."""
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 9))
    pieces = []
    for row, column in product(lines(draw, size[0]), lines(draw, size[1])):
        for channel in lines(draw, size[2]):
            source = draw(st.integers(0, len(shapes) - 1))
            counts, firsts, steps = zip(row, column, channel, strict=True)
            places = [
                origin(draw, count, axis)
                for count, axis in zip(counts, shapes[source], strict=True)
            ]
            at, at_step = zip(*places, strict=True)
            pieces.append(Piece(source, counts, firsts, steps, at, at_step))
    return Mosaic(size, tuple(pieces))
