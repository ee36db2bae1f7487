"""An average pool in the firmware."""

from nupes.export.firmware.operators.operator import Described, window_fields
from nupes.model.operators import AveragePool

__all__ = ["describe_average_pool"]


def describe_average_pool(op: AveragePool) -> Described:
    """Return the window."""
    return Described("NUPES_AVERAGE", window_fields(op))
