"""What the firmware must know of an operator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nupes.export.firmware.text import numbers
from nupes.model.codebook import Codebook
from nupes.model.operators import Window

__all__ = ["Described", "window_fields"]


@dataclass(frozen=True, eq=False)
class Described:
    """The ``kind`` is a name in ``nupes.h``, ``fields`` are members of its ``nupes_layer``; weight
    ``codes`` of a ``codebook`` are packed in the image; ``selected`` are channels by number."""

    kind: str
    fields: Mapping[str, object] = field(default_factory=dict)
    codes: np.ndarray | None = None
    codebook: Codebook | None = None
    selected: tuple[int, ...] = ()


def window_fields(op: Window, stretch: tuple[int, int] = (1, 1)) -> dict[str, object]:
    """Return the members that say which taps each result reads, of a map that is stretched."""
    return {
        "kernel": numbers(*op.kernel),
        "stride": numbers(*op.stride),
        "before": numbers(op.padding[0], op.padding[2]),
        "dilation": numbers(*op.dilation),
        "stretch": numbers(*stretch),
    }
