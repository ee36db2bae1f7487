"""Products of matrices, one of which is a constant for each head: over channels they are linear
layers, over tokens they mix these."""

import numpy as np
from torch import fx

from nupes.model.operators import Matmul
from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.graph import Convolution, Node
from nupes.quantizer.frontend.windows import Head, heads_of, join_heads, take, whole_heads

__all__ = ["multiply_constant"]


def multiply_constant(call: Call, constant: fx.Node, value: fx.Node, first: bool) -> str:
    """Translate the product of matrices (..., t, d) of an operand with those of a constant, which
    comes ``first`` or last."""
    node, heads = heads_of(call, value)
    matrices, heads = shared(call, call.constant(constant, "matrix"), heads, value_shape(value))
    if not first:  # (x m)^T is m^T x^T
        matrices = matrices.swapaxes(1, 2)
        heads = [turned(head) for head in heads]
    mixed = not heads[0].turned
    made = [
        add_product(call, node, head, matrix, mixed, number)
        for number, (head, matrix) in enumerate(zip(heads, matrices, strict=True))
    ]
    if mixed and matrices.shape[1] != matrices.shape[2]:
        node = call.values.graph.nodes[made[0]]
        heads = whole_heads(node, len(made))
    return join_heads(call, node, [head if first else turned(head) for head in heads], made)


def turned(head: Head) -> Head:
    """Return a head whose matrix is transposed."""
    return Head(head.pixels, head.channels, head.whole, not head.turned)


def shared(
    call: Call, array: np.ndarray, heads: list[Head], sizes: tuple[int, ...]
) -> tuple[np.ndarray, list[Head]]:
    """Return the matrices (n, rows, columns) of a constant and the heads that they multiply, each
    as often as the result of the call has it."""
    lead, own = value_shape(call.node)[:-2], sizes[:-2]
    if array.ndim > len(lead) + 2:
        if not (array == array[:1]).all():
            call.refuse("its matrices must be the same for every image of the batch")
        array = array[0]
    every = np.broadcast_to(array, (*lead, *array.shape[-2:])).reshape(-1, *array.shape[-2:])
    numbers = np.broadcast_to(np.arange(len(heads)).reshape(own), lead)
    return every, [heads[number] for number in numbers.ravel()]


def add_product(
    call: Call, node: Node, head: Head, matrix: np.ndarray, mixed: bool, number: int
) -> str:
    """Add the product of a matrix (n, terms) with a head's, whose rows are its pixels if they are
    to be ``mixed``, or else its channels."""
    source = call.values.graph.nodes[take(call, node, head, f"head_{number}")]
    height, width, channels = source.shape
    if not mixed:
        op = Convolution(np.ascontiguousarray(matrix)[:, :, None, None], np.zeros(len(matrix)))
        shape = height, width, len(matrix)
        return call.add(op, (source.name,), shape, "matmul", f"product_{number}")
    if len(matrix) != height * width:
        height, width = len(matrix), 1
    held = call.hold(np.ascontiguousarray(matrix).reshape(height, width, -1))
    shape = height, width, channels
    mix = Matmul(matrix.shape[1], False)
    return call.add(mix, (held, source.name), shape, "matmul", f"mixed_{number}")
