"""A concatenation in the firmware."""

from nupes.export.firmware.operators.operator import Described
from nupes.model.operators import Concat

__all__ = ["describe_concat"]


def describe_concat(op: Concat) -> Described:
    """Return the kind alone: the ports say which channels lie where."""
    return Described("NUPES_CONCAT")
