"""A weighted mean of rows: a product of stored tensors times the reciprocal of a sum."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.operators.matmul import multiply
from nupes.export.onnx.tokens import add_integers, reciprocal, scale_tokens
from nupes.model.operators import WeightedMean

__all__ = ["add_weighted_mean"]


def add_weighted_mean(graph: Graph, op: WeightedMean, sources: list[Operand], name: str) -> str:
    """Append the means, int64."""
    sums = multiply(graph, sources, False, name)
    weights = add_integers(graph, sources[0], f"{name}/weights")
    axes = graph.constant([1], np.int64, "axes/channels")
    total = graph.add("ReduceSum", [weights, axes], f"{name}/sum_of_weights", keepdims=1)
    factor = reciprocal(graph, total, f"{name}/reciprocal")
    return scale_tokens(graph, sums, factor, f"{name}/mean")
