"""Attention that is written by hand, as the one operator that it is.

``softmax(q @ k.transpose(-2, -1) * scale, -1) @ v`` becomes ``scaled_dot_product_attention(q, k, v,
scale=scale)``: its scores are those of several heads, which no tensor of a network holds at once.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import fx

from nupes.quantizer.frontend.registry import arguments, base_name, copy_graph, is_call

__all__ = ["join_attention"]

PRODUCTS = {"matmul", "bmm"}

PLAIN = {"dropout", "clone", "contiguous", "detach"}
"""Operators that give their operand as it is, dropout in evaluation."""


class Match(NamedTuple):
    """The operands of attention, keys transposed, the factor of its scores, and what tensors are
    added to them."""

    query: fx.Node
    key: fx.Node
    value: fx.Node
    scale: float
    added: tuple[fx.Node, ...]


def join_attention(graph: fx.Graph) -> fx.Graph:
    """Return a graph with attention as one operator: itself, or a changed copy."""
    if find(graph.nodes) is None:
        return graph
    copy = copy_graph(graph)
    while (found := find(copy.nodes)) is not None:
        node, (query, key, value, scale, added) = found
        with copy.inserting_before(node):
            mask = total(copy, added)
            turned = copy.call_function(torch.ops.aten.transpose.int, (key, -2, -1))
            turned.meta = {**key.meta, "val": key.meta["val"].transpose(-2, -1)}
            parts = (query, turned, value, mask)
            joined = copy.call_function(
                torch.ops.aten.scaled_dot_product_attention.default, parts, {"scale": scale}
            )
        joined.meta = dict(node.meta)
        node.replace_all_uses_with(joined)
        copy.erase_node(node)
    return copy


def find(nodes: Iterable[fx.Node]) -> tuple[fx.Node, Match] | None:
    """Return the first product that is attention's last one, with what it is made of."""
    for node in nodes:
        found = match(node)
        if found is not None:
            return node, found
    return None


def match(node: fx.Node) -> Match | None:
    """Return what attention's last product is made of, ``None`` for any other node."""
    if not is_product(node):
        return None
    weights, value = operands(node)
    while is_call(weights, PLAIN):
        if arguments(weights).get("train"):
            return None
        weights = operands(weights)[0]
    if not is_call(weights, {"softmax", "_softmax"}):
        return None
    last = weights.meta["val"].ndim - 1
    if arguments(weights)["dim"] not in (-1, last):
        return None
    scores, added = without_addends(operands(weights)[0])
    scores, scale = without_factors(scores)
    if not is_product(scores):
        return None
    (query, first), (key, second) = map(without_factors, operands(scores))
    return Match(query, key, value, scale * first * second, added)


def total(graph: fx.Graph, added: tuple[fx.Node, ...]) -> fx.Node | None:
    """Return the sum of tensors that are added to scores, ``None`` if there are none."""
    found = None
    for value in added:
        if found is None:
            found = value
            continue
        made = graph.call_function(torch.ops.aten.add.Tensor, (found, value))
        made.meta = {**value.meta, "val": found.meta["val"] + value.meta["val"]}
        found = made
    return found


def operands(node: fx.Node) -> Any:
    """Return what a call is given, in order: nodes and numbers."""
    return node.args


def is_product(value: Any) -> TypeGuard[fx.Node]:
    """Whether a value is a product of two tensors, of several dimensions."""
    if not is_call(value, PRODUCTS):
        return False
    given = operands(value)
    return all(isinstance(item, fx.Node) and item.meta["val"].ndim > 2 for item in given)


def without_addends(value: fx.Node) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """Return scores without the tensors that are added to them, and those."""
    if is_call(value, {"add"}) and not value.kwargs:
        first, second = operands(value)[:2]
        if isinstance(second, fx.Node) and isinstance(first, fx.Node):
            for scores, other in ((first, second), (second, first)):
                if not other.meta["val"].is_floating_point():
                    continue
                inner, added = without_addends(scores)
                if is_product(without_factors(inner)[0]):
                    return inner, (*added, other)
    return value, ()


def without_factors(value: fx.Node) -> tuple[fx.Node, float]:
    """Return what a value is a multiple of, and the factor."""
    factor = 1.0
    while is_call(value, {"mul", "div"}) and isinstance(operands(value)[1], int | float):
        number = float(operands(value)[1])
        if base_name(value) == "div" and not number:
            break
        factor = factor / number if base_name(value) == "div" else factor * number
        value = operands(value)[0]
    return value, factor
