"""A max-pool in the firmware."""

from nupes.export.firmware.operators.operator import Described, window_fields
from nupes.model.operators import MaxPool

__all__ = ["describe_max_pool"]


def describe_max_pool(op: MaxPool) -> Described:
    """Return the window."""
    return Described("NUPES_MAX", window_fields(op))
