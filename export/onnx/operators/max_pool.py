"""A max-pool: MaxPool on codes, which are sorted like their levels."""

import numpy as np

from nupes.export.crop import cropped
from nupes.export.graph import Graph, Operand
from nupes.model.operators import MaxPool

__all__ = ["add_max_pool"]


def add_max_pool(graph: Graph, op: MaxPool, sources: list[Operand], name: str) -> str:
    """Append a maximum of codes; padding with code 0 changes none, as every window holds a tap."""
    (source,) = sources
    part, padding = cropped(graph, op, source, f"{name}/cropped")
    codes, (top, bottom, left, right) = part.value, padding
    if any(padding):
        pads = graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64, f"{name}/pads")
        zero = graph.constant(0, np.uint8, "zero_point/0")
        codes = graph.add("Pad", [codes, pads, zero], f"{name}/padded")
    return graph.add(
        "MaxPool",
        [codes],
        f"{name}/codes",
        kernel_shape=op.kernel,
        strides=op.stride,
        dilations=op.dilation,
    )
