"""A product of two stored tensors in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import Matmul

__all__ = ["describe_matmul"]


def describe_matmul(op: Matmul) -> Described:
    """Return whether its rows are columns."""
    return Described("NUPES_MATMUL", {"transposed": int(op.transposed)})
