"""Einsums as the products that they are.

Indices of two operands are of both and of the result (``batch``), of both alone (``summed``), or of
one and the result. With these in order an einsum is one matrix product, ``torch.matmul``; where
nothing is summed it is a product of numbers. What does not depend on the network's input comes
second, as the weights of a linear layer do.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.insertion import add_call
from nupes.quantizer.frontend.registry import is_call, rewrite

__all__ = ["join_contractions", "terms_of"]

ATEN = torch.ops.aten

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of the dimensions that an ellipsis stands for, which no equation should have."""


class Operand(NamedTuple):
    """A tensor and the index of each of its dimensions."""

    node: fx.Node
    names: str


class Match(NamedTuple):
    """The call of an einsum, its operands, and the indices of its result."""

    call: fx.Node
    operands: tuple[Operand, ...]
    result: str


def join_contractions(graph: fx.Graph, inputs: Iterable[fx.Node]) -> fx.Graph:
    """Return a graph with products in the place of einsums: itself, or a changed copy. What depends
    on none of the ``inputs`` is constant."""
    given = {node.name for node in inputs}
    return rewrite(graph, match, lambda _, found: insert(found, given))


def terms_of(equation: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """Return the indices of each operand of so many dimensions, and those of the result, ``None``
    where an index is twice in one of them."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    missing = [rank - len(part.replace("...", "")) for part, rank in zip(parts, ranks, strict=True)]
    most = max([0, *(n for n, part in zip(missing, parts, strict=True) if "..." in part)])
    every = LETTERS[:most]
    names = [
        part.replace("...", every[most - n :] if n else "")
        for part, n in zip(parts, missing, strict=True)
    ]
    joined = "".join(names)
    alone = sorted(name for name in set(joined) if joined.count(name) == 1 and name not in every)
    result = right.replace("...", every) if arrow else every + "".join(alone)
    known = all(len(set(part)) == len(part) for part in (*names, result))
    whole = all(len(part) == rank for part, rank in zip(names, ranks, strict=True))
    return (names, result) if known and whole and set(result) <= set(joined) else None


def match(node: fx.Node) -> Match | None:
    """Return an einsum, ``None`` for any other call, or one whose operands are broadcast."""
    if not is_call(node, {"einsum"}):
        return None
    equation, tensors = operands(node)[:2]
    found = terms_of(equation, [tensor.meta["val"].ndim for tensor in tensors])
    if found is None:
        return None
    parts = tuple(map(Operand, tensors, found[0]))
    sizes: dict[str, Any] = {}
    for tensor, names in parts:
        for name, size in zip(names, tensor.meta["val"].shape, strict=True):
            if sizes.setdefault(name, size) != size:
                return None
    return Match(node, parts, found[1])


def operands(node: fx.Node) -> Any:
    """Return what a call is given, in order."""
    return node.args


def insert(found: Match, inputs: set[str]) -> fx.Node:
    """Insert the products of an einsum, of two operands after each other."""
    call, (first, *others), result = found
    for number, second in enumerate(others, 1):
        later = {*result, *"".join(operand.names for operand in others[number:])}
        if not depends(first.node, inputs):
            first, second = second, first
        first = multiplied(call, first, second, later, depends(second.node, inputs))
    return ordered(call, summed(call, first, set(result)), result).node


def depends(node: fx.Node, inputs: set[str]) -> bool:
    """Whether a node depends on one of the inputs, which are placeholders of these names."""
    seen, waiting = {node}, [node]
    while waiting:
        source = waiting.pop()
        if source.op == "placeholder" and source.name in inputs:
            return True
        new = [value for value in source.all_input_nodes if value not in seen]
        seen.update(new)
        waiting += new
    return False


def summed(call: fx.Node, operand: Operand, later: set[str]) -> Operand:
    """Return an operand summed over the indices that nothing has later."""
    dims = [dim for dim, name in enumerate(operand.names) if name not in later]
    if not dims:
        return operand
    node = add_call(call, ATEN.sum.dim_IntList, operand.node, dims)
    return Operand(node, "".join(name for name in operand.names if name in later))


def ordered(call: fx.Node, operand: Operand, names: str) -> Operand:
    """Return an operand with its dimensions in an order."""
    if operand.names == names:
        return operand
    dims, last = [operand.names.index(name) for name in names], len(names) - 1
    if dims == [*range(last - 1), last, last - 1]:
        return Operand(add_call(call, ATEN.transpose.int, operand.node, -2, -1), names)
    return Operand(add_call(call, ATEN.permute.default, operand.node, dims), names)


def multiplied(
    call: fx.Node, left: Operand, right: Operand, later: set[str], computed: bool
) -> Operand:
    """Insert the product of two operands, the right one ``computed`` from the network's input or
    constant; what is not needed ``later`` is summed over, before the product if one alone has
    it."""
    left = summed(call, left, later | set(right.names))
    right = summed(call, right, later | set(left.names))
    both = [name for name in left.names if name in right.names]
    within = "".join(name for name in both if name not in later)
    batch = "".join(name for name in both if name in later)
    rows = "".join(name for name in left.names if name not in both)
    columns = "".join(name for name in right.names if name not in both)
    if not within:
        return scaled(call, left, right)
    if batch and len(rows) < 2 and not computed:  # no rows that a matrix could serve
        return summed(call, scaled(call, left, right), later)
    # A constant serves all of the dimensions in front of it: the batch stays the first one.
    lead, rows = ("", rows) if computed else (rows[:-1], rows[-1:])
    sizes = dict(zip(left.names, left.node.meta["val"].shape, strict=True))
    sizes |= dict(zip(right.names, right.node.meta["val"].shape, strict=True))
    first = as_matrices(call, left, (lead + batch, rows, within), sizes)
    second = as_matrices(call, right, (batch, within, columns), sizes)
    node = add_call(call, ATEN.matmul.default, first, second)
    names = lead + batch + rows + columns
    shape = [sizes[name] for name in names]
    if list(node.meta["val"].shape) != shape:
        node = add_call(call, ATEN.reshape.default, node, shape)
    return Operand(node, names)


def as_matrices(
    call: fx.Node, operand: Operand, names: tuple[str, str, str], sizes: dict[str, Any]
) -> fx.Node:
    """Return an operand with its dimensions in an order, one for all of each of the last two
    groups."""
    batch, *matrix = names
    node = ordered(call, operand, "".join(names)).node
    if len(matrix[0]) == len(matrix[1]) == 1:
        return node
    shape = [sizes[name] for name in batch]
    shape += [prod(sizes[name] for name in group) for group in matrix]
    return add_call(call, ATEN.reshape.default, node, shape)


def scaled(call: fx.Node, left: Operand, right: Operand) -> Operand:
    """Insert the product of numbers that have the same indices, each for all others."""
    names = left.names + "".join(name for name in right.names if name not in left.names)
    parts = []
    for operand in (left, right):
        held = ordered(call, operand, "".join(name for name in names if name in operand.names))
        node, value = held.node, held.node.meta["val"]
        assert isinstance(value, Tensor)
        sizes = dict(zip(held.names, value.shape, strict=True))
        shape = [sizes.get(name, 1) for name in names]
        if list(value.shape) != shape:
            node = add_call(call, ATEN.reshape.default, node, shape)
        parts.append(node)
    return Operand(add_call(call, ATEN.mul.Tensor, *parts), names)
