"""Distances from the largest channel in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import SubtractMax

__all__ = ["describe_subtract_max"]


def describe_subtract_max(op: SubtractMax) -> Described:
    """Return the kind alone."""
    return Described("NUPES_SUBTRACT_MAX")
