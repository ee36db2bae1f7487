"""A weighted mean of rows in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import WeightedMean

__all__ = ["describe_weighted_mean"]


def describe_weighted_mean(op: WeightedMean) -> Described:
    """Return the kind alone."""
    return Described("NUPES_WEIGHTED_MEAN")
