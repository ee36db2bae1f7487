"""A normalization of each pixel's channels: sums, and the reciprocal of a root."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.tokens import add_integers, reciprocal_root, scale_tokens
from nupes.model.operators import Normalize

__all__ = ["add_normalize"]


def add_normalize(graph: Graph, op: Normalize, sources: list[Operand], name: str) -> str:
    """Append the normalized channels, int64."""
    (source,) = sources
    x = add_integers(graph, source, f"{name}/input")
    axes = graph.constant([1], np.int64, "axes/channels")
    count = graph.constant(op.channels, np.int64, f"number/{op.channels}")
    epsilon = graph.constant(op.epsilon, np.int64, f"number/{op.epsilon}")
    squares = graph.add("Mul", [x, x], f"{name}/squares")
    second = graph.add("ReduceSum", [squares, axes], f"{name}/second", keepdims=1)
    variance = graph.add("Mul", [second, count], f"{name}/times_squares")
    values = graph.add("Mul", [x, count], f"{name}/times")
    if op.centered:
        first = graph.add("ReduceSum", [x, axes], f"{name}/first", keepdims=1)
        square = graph.add("Mul", [first, first], f"{name}/first_squared")
        variance = graph.add("Sub", [variance, square], f"{name}/spread")
        values = graph.add("Sub", [values, first], f"{name}/centered")
    variance = graph.add("Add", [variance, epsilon], f"{name}/variance")
    factor = reciprocal_root(graph, variance, f"{name}/root")
    return scale_tokens(graph, values, factor, f"{name}/result")
