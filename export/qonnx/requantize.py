"""What follows an accumulator: one MultiThreshold, or ``y`` itself in float64.

Where ``y`` is needed (a residual, a wide result) each of its steps is exact in float64: integers
below 2**48, a division by a power of two, Floor.
"""

import numpy as np

from nupes.export.graph import Operand
from nupes.export.qonnx.shaped import Shaped, spacing
from nupes.export.qonnx.thresholds import accumulator_thresholds, add_threshold, first_reached
from nupes.model.arithmetic import Y_RANGE
from nupes.model.layer import Layer, Post

__all__ = ["add_post"]


def add_post(
    graph: Shaped, layer: Layer, acc: str, bound: int, skip: Operand | None, name: str
) -> str:
    """Append what follows a layer's accumulator, which lies within ``bound``; return the levels,
    float32, or ``y``, float64."""
    assert layer.post is not None
    if layer.encoder is None:
        return results(graph, layer.post, acc, skip, name)
    where, book = f"layer {layer.name!r}", layer.output.codebook
    spacing(book, f"{where}: output codebook")
    _, shape = graph.shapes[acc]
    reached = first_reached(layer.encoder, book, where)
    if skip is None:
        limits = accumulator_thresholds(layer.post.requantize, reached, bound)
        return add_threshold(graph, acc, limits, book, shape, f"{name}/levels")
    y = results(graph, layer.post, acc, skip, name)
    single = graph.convert(y, np.float32, f"{name}/y_single")
    return add_threshold(graph, single, reached[np.newaxis], book, shape, f"{name}/levels")


def results(graph: Shaped, post: Post, acc: str, skip: Operand | None, name: str) -> str:
    """Append ``y`` in float64."""
    tail, column = post.requantize, (-1, 1, 1)
    _, shape = graph.shapes[acc]
    value = graph.convert(acc, np.float64, f"{name}/acc_real")
    value = graph.real("Mul", value, tail.mult.reshape(column), f"{name}/scaled")
    value = graph.real("Add", value, tail.bias.reshape(column), f"{name}/biased")
    value = graph.real("Mul", value, 0.5 ** tail.shift.reshape(column), f"{name}/shifted")
    value = graph.put("Floor", [value], f"{name}/floored", np.float64, shape)
    if skip is not None:
        residual = post.residual
        assert residual is not None
        term = graph.convert(skip.value, np.float64, f"{name}/skip_real")
        term = graph.real("Mul", term, residual.mult, f"{name}/skip_scaled")
        term = graph.real("Add", term, 2 ** (residual.shift - 1), f"{name}/skip_biased")
        term = graph.real("Mul", term, 0.5**residual.shift, f"{name}/skip_shifted")
        term = graph.put("Floor", [term], f"{name}/skip_term", np.float64, shape)
        value = graph.put("Add", [value, term], f"{name}/added", np.float64, shape)
    low, high = (graph.constant(limit, np.float64, f"limit/{limit}") for limit in Y_RANGE)
    return graph.put("Clip", [value, low, high], f"{name}/y", np.float64, shape)
