"""A mosaic: Gather of codes from all inputs, one after another."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.places import numbers_of
from nupes.model.operators import Mosaic

__all__ = ["add_mosaic"]


def add_mosaic(graph: Graph, op: Mosaic, sources: list[Operand], name: str) -> str:
    """Append the codes of all pieces at their places."""
    flat = graph.constant([0, -1], np.int64, "shape/flat")
    rows = [
        graph.add("Reshape", [source.value, flat], f"{name}/flat_{number}")
        for number, source in enumerate(sources)
    ]
    (row,) = rows if len(rows) == 1 else [graph.add("Concat", rows, f"{name}/flat", axis=1)]
    order = numbers_of(op, [source.tensor.shape for source in sources])
    index = graph.constant(order, np.int32, f"{name}/places")
    codes = graph.add("Gather", [row, index], f"{name}/values", axis=1)
    height, width, channels = op.size
    shape = graph.constant([0, channels, height, width], np.int64, f"{name}/shape")
    return graph.add("Reshape", [codes, shape], f"{name}/codes")
