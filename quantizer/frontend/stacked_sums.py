"""Sums and means of tensors that are stacked in front of the batch, ``torch.stack(x).mean(0)``, as
the sums that they are."""

from typing import Any, NamedTuple

import torch
from torch import fx

from nupes.quantizer.frontend.insertion import add_call
from nupes.quantizer.frontend.registry import arguments, base_name, is_call, rewrite

__all__ = ["join_stacked_sums"]

ATEN = torch.ops.aten


class Match(NamedTuple):
    """The call of a sum or a mean, and the tensors that it is of."""

    call: fx.Node
    tensors: list[Any]


def join_stacked_sums(graph: fx.Graph) -> fx.Graph:
    """Return a graph with such sums written out: itself, or a changed copy."""
    return rewrite(graph, match, insert)


def match(node: fx.Node) -> Match | None:
    """Return which tensors are added, ``None`` for any other call."""
    if not is_call(node, {"mean", "sum"}):
        return None
    given = arguments(node)
    stack, dims = given["input"], given.get("dim")
    if not is_call(stack, {"stack"}) or given.get("keepdim") or given.get("dtype") is not None:
        return None
    tensors, ndim = arguments(stack), stack.meta["val"].ndim
    first = tensors["dim"] % ndim == 0 and [dim % ndim for dim in dims or ()] == [0]
    return Match(node, list(tensors["tensors"])) if first else None


def insert(_: fx.Graph, found: Match) -> fx.Node:
    """Insert the sum, divided by the number of tensors where it is a mean."""
    total = found.tensors[0]
    if base_name(found.call) == "mean" or len(found.tensors) == 1:
        factor = 1 / len(found.tensors) if base_name(found.call) == "mean" else 1
        parts = [add_call(found.call, ATEN.mul.Tensor, part, factor) for part in found.tensors]
        total, others = parts[0], parts[1:]
    else:
        others = found.tensors[1:]
    for part in others:
        total = add_call(found.call, ATEN.add.Tensor, total, part)
    return total
