"""A product of two stored tensors: MatMulInteger on levels as unsigned bytes."""

import numpy as np

from nupes.export.graph import Graph, Operand
from nupes.export.onnx.convolution import decode, joined
from nupes.model.operators import Matmul

__all__ = ["add_matmul", "multiply"]


def add_matmul(graph: Graph, op: Matmul, sources: list[Operand], name: str) -> str:
    """Append the sums of products, int64."""
    return multiply(graph, sources, op.transposed, name)


def multiply(graph: Graph, sources: list[Operand], transposed: bool, name: str) -> str:
    """Append the first source's pixels times the matrix of the second one, int64 (b, n, h, w).

    The matrix stands on the left: columns of the other operand are pixels, as they are stored.
    """
    source, matrix = sources
    flat = graph.constant([0, 0, -1], np.int64, "shape/pixels")
    # The levels of a matrix are those of weights: one table.
    ((rows, zero),) = decode(graph, matrix.tensor.codebook, matrix.value, f"{name}/matrix")
    rows = graph.add("Reshape", [rows, flat], f"{name}/matrix_rows")
    if transposed:
        rows = graph.add("Transpose", [rows], f"{name}/matrix_columns", perm=[0, 2, 1])
    sums = []
    operands = decode(graph, source.tensor.codebook, source.value, f"{name}/input")
    for (pixels, level), part in zip(operands, ("", "_low"), strict=False):
        pixels = graph.add("Reshape", [pixels, flat], f"{name}/pixels{part}")
        zeros = [graph.constant(z, np.uint8, f"zero_point/{z}") for z in (zero, level)]
        acc = graph.add("MatMulInteger", [rows, pixels, *zeros], f"{name}/acc{part}")
        sums.append(graph.cast(acc, np.int64, f"{name}/sum{part}"))
    height, width, _ = source.tensor.shape
    shape = graph.constant([0, 0, height, width], np.int64, f"{name}/shape")
    return graph.add("Reshape", [joined(graph, sums, name), shape], f"{name}/sums")
