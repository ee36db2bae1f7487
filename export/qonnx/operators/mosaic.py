"""A mosaic: Gather of levels from all inputs, one after another."""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.places import numbers_of
from nupes.export.qonnx.shaped import Shaped, planes
from nupes.model.operators import Mosaic

__all__ = ["add_mosaic"]


def add_mosaic(graph: Shaped, op: Mosaic, sources: list[Operand], name: str, where: str) -> str:
    """Append the levels of all pieces at their places, float32."""
    rows, counts = [], [int(np.prod(source.tensor.shape)) for source in sources]
    flat = graph.constant([1, -1], np.int64, "shape/flat")
    for number, (source, count) in enumerate(zip(sources, counts, strict=True)):
        label = f"{name}/flat_{number}"
        rows.append(graph.put("Reshape", [source.value, flat], label, np.float32, (1, count)))
    whole = (1, sum(counts))
    row = graph.put("Concat", rows, f"{name}/flat", np.float32, whole, axis=1)
    order = numbers_of(op, [source.tensor.shape for source in sources])
    index = graph.constant(order, np.int64, f"{name}/places")
    values = graph.put(
        "Gather", [row, index], f"{name}/values", np.float32, (1, len(order)), axis=1
    )
    shape = planes(op.size)
    target = graph.constant(shape, np.int64, f"{name}/shape")
    return graph.put("Reshape", [values, target], f"{name}/levels", np.float32, shape)
