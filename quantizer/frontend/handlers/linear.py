"""Linear layers: convolutions whose kernel is the whole map, or one pixel of channels."""

from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Matmul
from nupes.quantizer.frontend.call import Call, full_shape, value_shape
from nupes.quantizer.frontend.graph import Add, Convolution, Node
from nupes.quantizer.frontend.handlers.attention import multiply
from nupes.quantizer.frontend.handlers.constant_products import multiply_constant
from nupes.quantizer.frontend.heads import show
from nupes.quantizer.frontend.patches import Patches, find_patches
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order, is_permutation, last_places

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
    """Translate the product of a flattened map with a constant matrix (features, n), with one for
    each head, or with a computed one."""
    second = other if mat2 is None else mat2
    if not call.is_computed(input):
        return multiply_constant(call, input, second, first=True)
    if call.is_computed(second):
        return multiply(call, input, second)
    matrix = call.constant(second, "second operand")
    if matrix.ndim != 2:
        if matrix.ndim < 2:
            call.refuse(f"its second operand must be a matrix, not of shape {matrix.shape}")
        return multiply_constant(call, second, input, first=False)
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


def tokens_last(call: Call, value: fx.Node) -> np.ndarray | None:
    """Return which pixel of its node each feature of an operand (..., t) is, if the last dimension
    is all pixels, and the others all channels in their order; else ``None``."""
    node, places = call.viewed(value), call.views.get(value)
    if isinstance(places, list) or node.shape[:2] == (1, 1):
        return None
    places = call.places(value)
    flat, pixels = places.reshape(-1, places.shape[-1]), node.shape[0] * node.shape[1]
    tokens = flat[0] % pixels
    whole = flat.shape == (node.shape[2], pixels) and np.array_equal(
        flat, np.arange(node.shape[2])[:, None] * pixels + tokens
    )
    return tokens if whole and is_permutation(tokens, (*node.shape[:2], 1)) else None


def add_mixing(
    call: Call, value: fx.Node, tokens: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> str:
    """Add a linear layer that mixes tokens: the product of its weights (n, tokens), which the
    network holds, with the tokens as they lie."""
    source, (count, _) = call.viewed(value), weight.shape
    held = call.hold(weight[:, tokens.argsort()].astype(np.float64)[:, None])
    shape = count, 1, source.shape[2]
    op = Matmul(len(tokens), False)
    name = call.add(op, (held, source.name), shape, "linear", "mixed")
    if bias.any():
        every = call.hold(np.broadcast_to(bias[:, None, None], shape).copy())
        name = call.add(Add(), (name, every), shape, "linear")
    places = np.arange(count * source.shape[2]).reshape(value_shape(call.node))
    show(call, call.node, places.astype(np.int32), call.values.graph.nodes[name])
    return name


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
        tokens = tokens_last(call, value)
        if tokens is not None:
            return add_mixing(call, value, tokens, weight, bias)
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
