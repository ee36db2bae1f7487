"""A transposed convolution in the firmware."""

from nupes.export.firmware.operators.operator import Described, window_fields
from nupes.model.operators import TransposedConv

__all__ = ["describe_transposed_conv"]


def describe_transposed_conv(op: TransposedConv) -> Described:
    """Return the window over the stretched map, the groups and the weights."""
    fields = {**window_fields(op, op.stretch), "groups": op.groups}
    return Described("NUPES_CONV", fields, op.codes, op.codebook)
