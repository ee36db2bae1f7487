"""Arithmetic with constants, which becomes affines, and of two computed tensors."""

import math
from typing import Any

import numpy as np
from torch import fx

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.alignment import align
from nupes.quantizer.frontend.call import Call, map_shape, value_shape
from nupes.quantizer.frontend.graph import Add, Affine, Node, Product
from nupes.quantizer.frontend.handlers.joins import multiply_tensors
from nupes.quantizer.frontend.handlers.pointwise import common_root, join, translate_pointwise
from nupes.quantizer.frontend.heads import by_tokens
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import find_mosaic, without_repeats

__all__ = ["negate", "translate_arithmetic"]

LINEAR = {
    **{"add": "add", "sub": "sub", "subtract": "sub", "rsub": "rsub"},
    **{"mul": "mul", "multiply": "mul", "div": "div", "divide": "div", "true_divide": "div"},
}
"""What an operator is, by its ATen name."""


@handles(*LINEAR)
def translate_arithmetic(
    call: Call, input: Any, other: Any, alpha: float = 1, rounding_mode: str | None = None
) -> str:
    """Translate the arithmetic with a constant, and the sum or difference of two tensors."""
    kind = LINEAR[call.kind]
    if call.is_computed(input) and call.is_computed(other):
        factors = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}.get(kind)
        return combine(call, kind, input, other, factors)
    reverse = call.is_computed(other)
    data, constant = (other, input) if reverse else (input, other)
    if rounding_mode is not None or (kind == "div" and reverse):
        return translate_pointwise(call)
    (source,) = by_tokens(call, [data]) or [call.anywhere(data)]
    if value_shape(call.node) != value_shape(data):
        call.refuse("its constant operand must not change the tensor's shape")
    value = constant_map(call, constant, source, data)
    if kind == "div":
        if not value.all():
            call.refuse("division must be by a constant that is not zero")
        kind, value = "mul", 1 / value
    # The sum is first * input + second * other.
    first, second = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}.get(kind, (1, 1))
    scale, factor = (second, first) if reverse else (first, second)
    pixels = value.reshape(-1, value.shape[2])
    if (pixels == pixels[0]).all():
        ones, zeros = np.ones_like(pixels[0]), np.zeros_like(pixels[0])
        if kind == "mul":
            return affine(call, source, pixels[0], zeros)
        return affine(call, source, scale * ones, factor * pixels[0])
    if kind == "mul":
        source, signs = without_signs(call, source)
        held = call.hold(without_repeats(value * signs))
        return call.add(Product(), (held, source.name), source.shape, call.kind)
    scaled = source.name if scale == 1 else multiple(call, source, scale)
    return call.add(Add(), (scaled, call.hold(factor * value)), source.shape, call.kind)


@handles("neg", "negative")
def negate(call: Call, input: fx.Node) -> str:
    """Translate the change of sign."""
    (source,) = by_tokens(call, [input]) or [call.anywhere(input)]
    return affine(call, source, -np.ones(source.shape[2]), np.zeros(source.shape[2]))


@handles("lerp")
def interpolate(call: Call, input: fx.Node, end: fx.Node, weight: Any) -> str:
    """Translate ``input + weight * (end - input)`` of two tensors and a number."""
    if not (call.is_computed(input) and call.is_computed(end)):
        return translate_pointwise(call)
    share = call.constant(weight, "weight")
    if share.size != 1:
        call.refuse(f"its weight must be one number, not of shape {share.shape}")
    return combine(call, "lerp", input, end, (1 - share.item(), share.item()))


def affine(call: Call, source: Node, scale: np.ndarray, shift: np.ndarray) -> str:
    """Add a scale and a shift per channel."""
    return call.add(Affine(scale, shift), (source.name,), source.shape, call.kind)


def constant_map(call: Call, value: Any, source: Node, data: fx.Node) -> np.ndarray:
    """Return what a constant operand is for each number of the map (h, w, c) that the other one
    is."""
    array, (height, width, channels) = call.constant(value, "constant operand"), source.shape
    once, sizes = without_repeats(array), value_shape(data)
    if once.size == 1:
        return np.full(source.shape, once.item())
    if array.ndim > len(sizes) and (array.ndim > len(sizes) + 1 or once.shape[0] > 1):
        call.refuse(
            "its constant operand must be the same for every image of the batch, not of shape "
            f"{array.shape}"
        )
    found = np.empty(math.prod(sizes))
    found[call.places(data).ravel()] = np.broadcast_to(once, (1, *sizes)).ravel()
    return found.reshape(channels, height, width).transpose(1, 2, 0)


def without_signs(call: Call, node: Node) -> tuple[Node, np.ndarray]:
    """Return a node and factors of its channels, 1 or -1, that are a node: the one before, if it is
    one of signs alone."""
    op = node.op
    if isinstance(op, Affine) and not op.shift.any() and (np.abs(op.scale) == 1).all():
        before = call.values.graph.nodes[node.inputs[0]]
        if before.shape == node.shape:
            return before, op.scale
    return node, np.ones(node.shape[2])


def multiple(call: Call, source: Node, factor: float) -> str:
    """Add a multiple of a map."""
    scale = np.full(source.shape[2], float(factor))
    return affine(call, source, scale, np.zeros_like(scale))


def spread(call: Call, value: fx.Node) -> Node:
    """Return the node of an operand, with rows, columns and channels of size 1 as often as the
    call's value has them."""
    sizes = value_shape(call.node)
    if value_shape(value) == sizes or len(value_shape(value)) != len(sizes):
        return call.anywhere(value)
    operands = call.node.all_input_nodes
    whole = [call.anywhere(other).shape for other in operands if value_shape(other) == sizes]
    last = any(call.is_last(other) and not call.is_first(other) for other in operands)
    height, width, channels = whole[0] if whole else map_shape(sizes, last)
    places = np.broadcast_to(call.places(value), sizes)
    places = np.moveaxis(places, -1, 0) if last else places
    node = call.viewed(value)
    op = find_mosaic(places.reshape(channels, height, width), node.shape)
    if op is None:
        call.refuse("its operand must repeat whole channels, rows and columns")
    name = call.add(op, (node.name,), op.size, call.kind, "repeated")
    return call.values.graph.nodes[name]


def align_pair(call: Call, left: fx.Node, right: fx.Node, factor: bool) -> tuple[Node, Node] | None:
    """Return the nodes of two operands in the order of one of them, that of the left one first, or
    the factor's last; ``None`` where they cannot be brought into one order."""
    found = align(call, left, right, factor)
    if found is not None:
        return found
    found = align(call, right, left, factor)
    if found is None or factor:
        return found
    return found[1], found[0]


def combine(
    call: Call, kind: str, left: fx.Node, right: fx.Node, factors: tuple[float, float] | None
) -> str:
    """Add what two computed tensors give: one function if both are functions of one tensor, or
    else their product, or their sum with these factors."""
    tokens = by_tokens(call, [left, right]) if factors or kind == "mul" else None
    root = None if tokens else common_root(call, [left, right])
    if root is not None:
        return join(call, root)
    if tokens and factors is None:
        names = tokens[0].name, tokens[1].name
        return call.add(Product(), names, tokens[0].shape, call.kind)
    try:
        if factors is None and kind == "mul":
            return multiply_tensors(call, left, right)
        if factors is None:
            return translate_pointwise(call)
        first, second = tokens or (spread(call, value) for value in (left, right))
        if first.shape != second.shape:
            call.refuse(
                "both tensors of a sum must have one shape, or sizes of 1 that serve all of the "
                f"other's, not {value_shape(left)} and {value_shape(right)}"
            )
    except UnsupportedError:
        found = None if kind == "div" else align_pair(call, left, right, factors is None)
        if found is None and kind == "mul" and len(value_shape(call.node)) == 3:
            found = spread(call, left), call.anywhere(right)  # each serves the other one
        if found is None:
            raise
        first, second = found
        if factors is None:
            return call.add(Product(), (second.name, first.name), first.shape, call.kind)
    terms = []
    for factor, term in zip(factors, (first, second), strict=True):
        terms.append(term.name if factor == 1 else multiple(call, term, factor))
    return call.add(Add(), (terms[0], terms[1]), first.shape, call.kind)
