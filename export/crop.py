"""What windows with negative padding read: a part of a map."""

from dataclasses import replace

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.model.operators import Padding, Window

__all__ = ["cropped"]


def cropped(graph: Graph, op: Window, source: Operand, output: str) -> tuple[Operand, Padding]:
    """Append the rows and columns of a map (b, c, h, w) that negative padding leaves; return them
    and the padding that is to be added."""
    if min(op.padding) >= 0:
        return source, op.padding
    top, bottom, left, right = (max(-amount, 0) for amount in op.padding)
    height, width, channels = source.tensor.shape
    starts = graph.constant([top, left], np.int64, f"{output}_starts")
    ends = graph.constant([height - bottom, width - right], np.int64, f"{output}_ends")
    axes = graph.constant([2, 3], np.int64, "axes/map")
    value = graph.add("Slice", [source.value, starts, ends, axes], output)
    shape = (height - top - bottom, width - left - right, channels)
    top, bottom, left, right = (max(amount, 0) for amount in op.padding)
    return Operand(replace(source.tensor, shape=shape), value), (top, bottom, left, right)
