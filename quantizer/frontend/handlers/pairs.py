"""Arguments of windows: a number, or one for height and one for width."""

from typing import Any

from nupes.model.operators import Padding

__all__ = ["pair", "symmetric"]


def pair(value: Any) -> tuple[int, int]:
    """Return an int, or a list of one or two ints, as a pair."""
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])


def symmetric(padding: tuple[int, int]) -> Padding:
    """Return (height, width) padding as (top, bottom, left, right)."""
    return padding[0], padding[0], padding[1], padding[1]
