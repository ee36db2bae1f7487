"""Rows of length 1, as ``F.normalize`` makes them: ``x / x.norm(dim=d, keepdim=True).clamp(eps)``
as the one operator that it is: a norm over channels, or over all pixels of each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from nupes.quantizer.frontend.registry import arguments, is_call, rewrite, without_casts

__all__ = ["join_unit_rows"]

LEAST = 1e-12
"""The least length by which is divided where nothing says so."""

ROOTS = {"linalg_vector_norm", "norm"}


class Match(NamedTuple):
    """What is normalized along which dimension, counted from the last one, and the least length."""

    source: fx.Node
    dim: int
    epsilon: float


@torch.library.custom_op("nupes::unit_rows", mutates_args=())
def unit_rows(input: Tensor, dim: int, eps: float) -> Tensor:
    """Return a tensor (b, ...) whose rows along a dimension have length 1."""
    return F.normalize(input, dim=dim, eps=eps)


def join_unit_rows(graph: fx.Graph) -> fx.Graph:
    """Return a graph with such quotients as one operator each: itself, or a changed copy."""
    return rewrite(graph, match, insert)


def insert(graph: fx.Graph, found: Match) -> fx.Node:
    """Insert the operator."""
    return graph.call_function(torch.ops.nupes.unit_rows.default, tuple(found))


def match(node: fx.Node) -> Match | None:
    """Return what a quotient normalizes, ``None`` for any other operator."""
    if not is_call(node, {"div"}) or len(node.args) != 2 or node.kwargs:
        return None
    source, length = (without_casts(part) for part in node.args)
    while is_call(length, {"expand", "expand_as"}):
        length = without_casts(length.args[0])
    epsilon = LEAST
    if is_call(length, {"clamp_min", "clamp"}):
        given = arguments(length)
        least: Any = given.get("min")
        if not isinstance(least, int | float) or given.get("max") is not None or least <= 0:
            return None
        epsilon, length = float(least), without_casts(length.args[0])
    return length_of(length, source, epsilon)


def length_of(length: Any, source: Any, epsilon: float) -> Match | None:
    """Return the match if one node is the length of another one's rows."""
    if not is_call(length, ROOTS) or not isinstance(source, fx.Node):
        return None
    given, ndim = arguments(length), source.meta["val"].ndim
    dims, order = given.get("dim"), given.get("ord", given.get("p"))
    same = without_casts(given["input"]) is source and given.get("keepdim")
    if not same or order not in (2, None) or not isinstance(dims, list | tuple) or len(dims) != 1:
        return None
    dim = dims[0] % ndim - ndim
    return Match(source, dim, epsilon) if dim > -ndim else None
