"""Distances from the largest channel: ReduceMax and Sub, and that of a masked score."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.tokens import add_integers
from nupes.model.operators import SubtractMax
from nupes.model.operators.subtract_max import MASKED, MASKED_DISTANCE

__all__ = ["add_subtract_max"]


def add_subtract_max(graph: Graph, op: SubtractMax, sources: list[Operand], name: str) -> str:
    """Append each channel minus the largest one of its pixel, int64: 16 bits each."""
    (source,) = sources
    values = add_integers(graph, source, f"{name}/input")
    small = graph.cast(values, np.int32, f"{name}/numbers")
    axes = graph.constant([1], np.int64, "axes/channels")
    largest = graph.add("ReduceMax", [small, axes], f"{name}/largest", keepdims=1)
    distance = graph.add("Sub", [small, largest], f"{name}/distance")
    lowest, far = (graph.constant(n, np.int32, f"number/{n}") for n in (MASKED, MASKED_DISTANCE))
    masked = graph.add("Equal", [small, lowest], f"{name}/masked")
    chosen = graph.add("Where", [masked, far, distance], f"{name}/chosen")
    return graph.cast(chosen, np.int64, f"{name}/acc")
