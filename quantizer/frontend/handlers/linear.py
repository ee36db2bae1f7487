"""Linear layers: convolutions whose kernel is the whole map, or one pixel of channels."""

from typing import Any

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape, value_shape
from nupes.quantizer.frontend.graph import Convolution, Node
from nupes.quantizer.frontend.handlers.attention import multiply
from nupes.quantizer.frontend.patches import Patches, find_patches
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order, last_places

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


@handles("mm", "matmul", "bmm")
def product(call: Call, input: fx.Node, mat2: Any = None, other: Any = None) -> str:
    """Translate the product of a flattened map with a constant matrix (features, n), or with a
    computed one."""
    second = other if mat2 is None else mat2
    if call.is_computed(second):
        return multiply(call, input, second)
    matrix = call.constant(second, "second operand")
    if matrix.ndim != 2:
        call.refuse(f"its second operand must be a matrix, not of shape {matrix.shape}")
    return add_linear(call, input, matrix.T, np.zeros(matrix.shape[1]))


def patches_of(call: Call, value: fx.Node) -> Patches | None:
    """Return the patches of a map that an operand's tokens are, if it is a view of that sort."""
    if value not in call.views or call.is_last(value):
        return None
    places = call.places(value)
    found = find_patches(places.reshape(-1, places.shape[-1]), call.viewed(value).shape)
    if found is None or found.kernel == (1, 1):
        return None
    return None if places.ndim == 3 and places.shape[:2] != found.size else found


def add_patches(
    call: Call, source: Node, patches: Patches, matrix: np.ndarray, bias: np.ndarray
) -> str:
    """Add a linear layer on patches, a convolution."""
    weight = patches.weight(matrix, source.shape[2])
    op = Convolution(weight, bias, patches.stride, patches.padding)
    shape = *patches.size, len(matrix)
    last = last_places(value_shape(call.node), shape)
    assert last is not None
    call.views[call.node] = last
    return call.add(op, (source.name,), shape, "linear")


def add_linear(call: Call, value: fx.Node, weight: np.ndarray, bias: np.ndarray) -> str:
    """Add a linear layer, weight (n, c * h * w), as a convolution whose kernel is the whole map, or
    one of weight (n, c) on channels that are in the last dimension. A map that is flattened in
    another order becomes weights in another order."""
    if len(full_shape(value)) > 2:
        patches = patches_of(call, value)
        if patches is not None:
            return add_patches(call, call.viewed(value), patches, weight, bias)
        found = call.spread_tokens(value)
        if found is not None:
            (tokens, channels), source = found, call.viewed(value)
            lanes = np.arange(len(weight)) * source.shape[0] * source.shape[1]
            call.views[call.node] = (tokens[..., None] + lanes).astype(np.int32)
            op = Convolution(weight[:, channels.argsort(), None, None], bias)
            return call.add(op, (source.name,), (*source.shape[:2], len(weight)), "linear")
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
