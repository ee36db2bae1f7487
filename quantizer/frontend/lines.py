"""Lines: the numbers along an axis as few rows of equal steps."""

from collections.abc import Sequence

__all__ = ["Line", "lines_of"]

Line = tuple[int, int, int, int, int]
"""Count, first place and step in the result, first number and step in the source."""

WIDEST = 64
"""The largest step in the result that is looked for."""


def lines_of(numbers: Sequence[int]) -> list[Line]:
    """Return the numbers as lines; a step of the result with which they are fewest.

    Upsampled by s, the numbers are s lines that lie s apart in the result.
    """
    found = (
        [line for first in range(step) for line in runs(numbers, first, step)]
        for step in range(1, min(WIDEST, len(numbers)) + 1)
    )
    return min(found, key=len)


def runs(numbers: Sequence[int], first: int, step: int) -> list[Line]:
    """Return every ``step``-th number from place ``first`` on as lines, each as long as it can."""
    part, lines, start = numbers[first::step], [], 0
    while start < len(part):
        stop = start + 1
        rise = part[stop] - part[start] if stop < len(part) else 1
        while stop < len(part) and part[stop] - part[stop - 1] == rise:
            stop += 1
        lines.append((stop - start, first + start * step, step, part[start], rise))
        start = stop
    return lines
