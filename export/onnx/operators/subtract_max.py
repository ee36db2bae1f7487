"""Distances from the largest channel: ReduceMax and Sub."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.tokens import add_integers
from nupes.model.operators import SubtractMax

__all__ = ["add_subtract_max"]


def add_subtract_max(graph: Graph, op: SubtractMax, sources: list[Operand], name: str) -> str:
    """Append each channel minus the largest one of its pixel, int64: 16 bits each."""
    (source,) = sources
    values = add_integers(graph, source, f"{name}/input")
    small = graph.cast(values, np.int32, f"{name}/numbers")
    axes = graph.constant([1], np.int64, "axes/channels")
    largest = graph.add("ReduceMax", [small, axes], f"{name}/largest", keepdims=1)
    return graph.cast(
        graph.add("Sub", [small, largest], f"{name}/distance"), np.int64, f"{name}/acc"
    )
