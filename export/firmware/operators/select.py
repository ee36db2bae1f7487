"""A selection of channels and pixels in the firmware."""

from nupes.export.firmware.operators.operator import Described, window_fields
from nupes.model.operators import Select

__all__ = ["describe_select"]


def describe_select(op: Select) -> Described:
    """Return the window of one tap and the channels."""
    return Described("NUPES_SELECT", window_fields(op), selected=op.channels)
