"""Linear layers: convolutions whose kernel is the whole map, or one pixel of channels."""

from typing import Any

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order

__all__ = ["addmm", "translate_linear"]


@handles("linear")
def translate_linear(call: Call, input: fx.Node, weight: Any, bias: Any) -> str:
    """Translate ``linear`` on a flattened map, or on the channels of each pixel or token."""
    matrix = call.weight(weight, "weight")
    return add_linear(call, input, matrix, call.vector(bias, 0.0, len(matrix), "bias"))


@handles("addmm")
def addmm(call: Call, input: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> str:
    """Translate ``beta * bias + alpha * (x @ weight.T)``, a decomposed linear layer."""
    matrix = call.constant(mat2, "weight").T
    bias = np.broadcast_to(call.constant(input, "bias"), (len(matrix),))
    return add_linear(call, mat1, alpha * matrix, beta * bias)


@handles("mm", "matmul")
def product(call: Call, input: fx.Node, mat2: Any = None, other: Any = None) -> str:
    """Translate the product of a flattened map with a constant matrix (features, n)."""
    matrix = call.constant(other if mat2 is None else mat2, "second operand")
    if matrix.ndim != 2:
        call.refuse(f"its second operand must be a matrix, not of shape {matrix.shape}")
    return add_linear(call, input, matrix.T, np.zeros(matrix.shape[1]))


def add_linear(call: Call, value: fx.Node, weight: np.ndarray, bias: np.ndarray) -> str:
    """Add a linear layer, weight (n, c * h * w), as a convolution whose kernel is the whole map, or
    one of weight (n, c) on channels that are in the last dimension. A map that is flattened in
    another order becomes weights in another order."""
    if len(full_shape(value)) > 2:
        if not call.lays_last(value):
            call.refuse(
                "linear must read (batch, features) or channels in the last dimension, as behind "
                f"permute, not a tensor {full_shape(value)} whose channels are in dimension 1"
            )
        source = call.viewed(value)
        op = Convolution(weight[:, :, None, None], bias)
        return call.add(op, (source.name,), (*source.shape[:2], len(weight)), "linear")
    source = call.viewed(value)
    if value in call.views:
        order = call.places(value).argsort()
        if in_order(call.places(value)[order], source.shape):
            weight = weight[:, order]
        else:
            source = call.source(value)
    height, width, channels = source.shape
    kernel = weight.reshape(len(weight), channels, height, width)
    return call.add(Convolution(kernel, bias), (source.name,), (1, 1, len(weight)), "linear")
