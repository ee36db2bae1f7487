"""A convolution in the firmware, linear layers included."""

from nupes.export.firmware.operators.operator import Described, window_fields
from nupes.model.operators import Conv

__all__ = ["describe_conv"]


def describe_conv(op: Conv) -> Described:
    """Return the window, the groups and the weights."""
    fields = {**window_fields(op), "groups": op.groups}
    return Described("NUPES_CONV", fields, op.codes, op.codebook)
