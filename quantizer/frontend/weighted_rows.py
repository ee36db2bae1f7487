"""Means weighted by softmax of numbers that are no scores of attention, ``softmax(x) @ v``, as the
one operator that they are: pooling by attention, and attention that is linear in the tokens."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.insertion import add_call
from nupes.quantizer.frontend.registry import arguments, is_call, rewrite, without_casts
from nupes.quantizer.frontend.softmax import PLAIN, before_transposition, is_product

__all__ = ["join_weighted_rows"]

ATEN = torch.ops.aten


class Match(NamedTuple):
    """The call of a product, the numbers (..., t, n) or, ``across``, (..., n, t), softmax of which
    are weights, and values (..., n, d), transposed as the result is if it is ``turned``."""

    call: fx.Node
    numbers: fx.Node
    value: fx.Node
    across: bool
    turned: bool


@torch.library.custom_op("nupes::weighted_rows", mutates_args=())
def weigh(input: Tensor, value: Tensor) -> Tensor:
    """Return means of values (..., n, d), weighted by softmax of numbers (..., t, n)."""
    return input.softmax(-1) @ value


@weigh.register_fake
def shape_of(input: Tensor, value: Tensor) -> Tensor:
    """Return a tensor like the means."""
    return torch.matmul(input, value)


def join_weighted_rows(graph: fx.Graph) -> fx.Graph:
    """Return a graph with such means as one operator each: itself, or a changed copy."""
    return rewrite(graph, match, insert)


def match(node: fx.Node) -> Match | None:
    """Return what a product is the weighted means of, ``None`` for any other."""
    if not is_product(node):
        return None
    first, second = node.args
    assert isinstance(first, fx.Node)
    assert isinstance(second, fx.Node)
    for weights, value, turned in ((first, second, False), (second, first, True)):
        found = softmax_of(weights)
        if found is not None and found[1] != turned:
            return Match(node, found[0], value, found[2], turned)
    return None


def softmax_of(weights: Any) -> tuple[fx.Node, bool, bool] | None:
    """Return the numbers whose softmax over keys weights are, whether these are the rows' own
    dimension, and whether the numbers have them in front of the rows; ``None`` for others."""
    plain: Any = without_casts(weights, PLAIN)
    before = before_transposition(plain)
    softmax: Any = plain if before is None else without_casts(before, PLAIN)
    if not is_call(softmax, {"softmax", "_softmax"}):
        return None
    shape = softmax.meta["val"].shape
    if sorted(weights.meta["val"].shape) != sorted(shape) or len(shape) < 3:
        return None
    dim = arguments(softmax)["dim"] % len(shape) - len(shape)
    if dim not in (-1, -2):
        return None
    last = (dim == -1) == (before is None)
    numbers: Any = softmax.args[0]
    return numbers, last, dim == -2


def insert(_: fx.Graph, found: Match) -> fx.Node:
    """Insert the operator, between transpositions."""
    call, numbers, value, across, turned = found
    if across:
        numbers = add_call(call, ATEN.transpose.int, numbers, -2, -1)
    if turned:
        value = add_call(call, ATEN.transpose.int, value, -2, -1)
    made = add_call(call, torch.ops.nupes.weighted_rows.default, numbers, value)
    return add_call(call, ATEN.transpose.int, made, -2, -1) if turned else made
