"""A normalization of channels in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import Normalize

__all__ = ["describe_normalize"]


def describe_normalize(op: Normalize) -> Described:
    """Return which normalization it is."""
    return Described("NUPES_NORMALIZE", {"centered": int(op.centered), "epsilon": op.epsilon})
