"""Linear layers: convolutions whose kernel is the whole map."""

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
    """Translate ``linear`` on a flattened map."""
    matrix = call.weight(weight, "weight")
    return whole_map(call, input, matrix, call.vector(bias, 0.0, len(matrix), "bias"))


@handles("addmm")
def addmm(call: Call, input: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> str:
    """Translate ``beta * bias + alpha * (x @ weight.T)``, a decomposed linear layer."""
    matrix = call.constant(mat2, "weight").T
    bias = np.broadcast_to(call.constant(input, "bias"), (len(matrix),))
    return whole_map(call, mat1, alpha * matrix, beta * bias)


@handles("mm", "matmul")
def product(call: Call, input: fx.Node, mat2: Any = None, other: Any = None) -> str:
    """Translate the product of a flattened map with a constant matrix (features, n)."""
    matrix = call.constant(other if mat2 is None else mat2, "second operand")
    if matrix.ndim != 2:
        call.refuse(f"its second operand must be a matrix, not of shape {matrix.shape}")
    return whole_map(call, input, matrix.T, np.zeros(matrix.shape[1]))


def whole_map(call: Call, value: fx.Node, weight: np.ndarray, bias: np.ndarray) -> str:
    """Add a linear layer, weight (n, c * h * w), as a convolution whose kernel is the whole map; a
    map that is flattened in another order becomes weights in another order."""
    source = call.viewed(value)
    dims = len(full_shape(value))
    if dims != 2:
        call.refuse(f"linear must read a tensor of (batch, features), not {dims} dimensions")
    order = call.places(value).argsort()
    if value not in call.values.views or not in_order(call.places(value)[order], source.shape):
        source = call.source(value)
    else:
        weight = weight[:, order]
    height, width, channels = source.shape
    kernel = weight.reshape(len(weight), channels, height, width)
    return call.add(Convolution(kernel, bias), (source.name,), (1, 1, len(weight)), "linear")
