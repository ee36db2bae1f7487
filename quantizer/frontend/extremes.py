"""Where a function of one variable turns, and between which values it stays.

An encoder has ``2**(bits + 1) - 1`` thresholds, enough for every quantizer of a function that rises
or falls in at most two pieces: one turning point. Nothing is known of a function but its values, so
it is sampled: evenly at several widths, and evenly in the logarithm up to 1e6.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Extremes", "find_extremes"]

POINTS = 4097
"""Points of a grid; odd, so that 0 is one of them."""

WIDTHS = (1.0, 16.0, 256.0, 4096.0)
"""Magnitudes up to which turning points are counted on an even grid."""

DEFINED = 16.0
"""Magnitude up to which a function must have values; beyond it numbers may overflow."""

NOISE = 1e-7
"""Part of a function's range in which ups and downs are rounding errors, or thinner than levels."""

FLAT = 1e-6
"""Relative change between the last two points of the widest grid that counts as none."""

Real = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Extremes:
    """Bounds of a function's values (infinite where it goes on), its number of turning points, and
    a place where it has no value."""

    low: float
    high: float
    turns: int
    hole: float | None


def find_extremes(function: Real) -> Extremes:
    """Return where a real function on float64 arrays turns and stays."""
    with np.errstate(all="ignore"):
        near = np.linspace(-DEFINED, DEFINED, POINTS)
        holes = near[np.isnan(function(near))]
        turns = max(count_turns(function(width * near / DEFINED)) for width in WIDTHS)
        high = -lowest(lambda x: -function(x))
        return Extremes(lowest(function), high, turns, float(holes[0]) if len(holes) else None)


def count_turns(values: np.ndarray) -> int:
    """Return how often a sampled function changes its direction by more than noise."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return 0
    noise = NOISE * float(values.max() - values.min())
    turns, direction, extreme = 0, 0, values[0]
    # Only the ends of rising and falling runs matter: few, so that a loop is quick.
    signs = np.sign(np.diff(values))
    moving = np.flatnonzero(signs)
    ends = moving[np.flatnonzero(np.diff(signs[moving]))] + 1
    for value in (*values[ends], values[-1]):
        step = value - extreme
        if direction == 0 or step * direction > 0:
            if abs(step) > noise or direction:
                direction = direction or int(np.sign(step))
                extreme = value
        elif abs(step) > noise:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


def lowest(function: Real) -> float:
    """Return a function's lowest value, refined between the points of the grid; -inf where it
    still falls at an end."""
    tail = np.geomspace(1e-6, 1e6, POINTS)
    grid = np.unique(np.concatenate([-tail, np.linspace(-DEFINED, DEFINED, POINTS), tail]))
    values = function(grid)
    seen = np.isfinite(values)
    if (values == -np.inf).any() or not seen.any():
        return -np.inf
    grid, values = grid[seen], values[seen]
    least = int(values.argmin())
    value = float(values[least])
    for end, before in ((0, 1), (-1, -2)):
        if value == values[end] < values[before] - FLAT * max(1.0, abs(value)):
            return -np.inf
    inside = np.linspace(grid[max(least - 1, 0)], grid[min(least + 1, len(grid) - 1)], POINTS)
    return min(value, float(np.nanmin(function(inside))))
