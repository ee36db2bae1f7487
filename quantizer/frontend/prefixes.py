"""Rotary embeddings of all tokens but the first ones, such as class and register tokens, as those
of all tokens.

``cat([x[:, :, :p], y * cos + rotated(y) * sin], 2)`` with ``y = x[:, :, p:]`` becomes ``x * cos +
rotated(x) * sin``, with cosines of 1 and sines of 0 for the first tokens: these stay as they are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.evaluation import ancestors
from nupes.quantizer.frontend.registry import (
    JOINS,
    arguments,
    base_name,
    is_call,
    rewrite,
    without_casts,
)

__all__ = ["turn_all_tokens"]

ATEN = torch.ops.aten

SAME = {"neg", "negative", "clone", "contiguous", "alias", "to", "_to_copy", "detach"}
"""Operators of single values that a rotation is made of."""

SHAPES = {"reshape", "view", "_unsafe_view"}

LAST = {
    *("slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack"),
    *("flatten", "unflatten", "unsqueeze", "squeeze"),
}
"""Operators along a dimension, which must be behind the tokens'."""


class Rows(NamedTuple):
    """Some tokens of a tensor (b, heads, tokens, d)."""

    source: fx.Node
    first: int
    last: int


class Match(NamedTuple):
    """What is turned but for its first tokens: the terms that are added up, each a part of a
    rotation and its factors."""

    source: fx.Node
    rest: Rows
    terms: tuple[tuple[fx.Node, fx.Node], tuple[fx.Node, fx.Node]]


def turn_all_tokens(graph: fx.Graph) -> fx.Graph:
    """Return a graph whose rotations are of all tokens: itself, or a changed copy."""
    return rewrite(graph, match, insert_rotation)


def match(node: fx.Node) -> Match | None:
    """Return what a concatenation turns, ``None`` for any other operator."""
    if not is_call(node, JOINS):
        return None
    parts, value = node.args[0], node.meta["val"]
    dim = arguments(node).get("dim", 0)
    if value.ndim != 4 or dim not in (2, -2) or not isinstance(parts, Sequence) or len(parts) != 2:
        return None
    kept, total = rows_of(parts[0]), without_casts(parts[1])
    if kept is None or kept.first != 0 or not is_call(total, {"add"}) or total.kwargs:
        return None
    rest = Rows(kept.source, kept.last, value.shape[2])
    products = [factors_of(part, rest) for part in total.args[:2]]
    own = [part for part in products if part is not None and rows_of(part[0]) == rest]
    others = [part for part in products if part is not None and rows_of(part[0]) != rest]
    if len(own) != 1 or len(others) != 1:
        return None
    return Match(kept.source, rest, (own[0], others[0]))


def rows_of(node: Any) -> Rows | None:
    """Return which tokens of which tensor a node is, ``None`` where it is something else."""
    while is_call(node, {"alias", "clone", "contiguous", "detach"}):
        node = node.args[0]
    if not isinstance(node, fx.Node) or not isinstance(node.meta.get("val"), Tensor):
        return None
    count = node.meta["val"].shape[2] if node.meta["val"].ndim == 4 else 0
    if is_call(node, {"slice"}):
        given = arguments(node)
        if given["dim"] in (2, -2) and given.get("step", 1) == 1 and count:
            start, total = given["start"] or 0, given["input"].meta["val"].shape[2]
            start = max(0, start + total if start < 0 else start)
            return Rows(given["input"], start, start + count)
    if node.op == "call_function" and base_name(node) == "getitem":
        source, index = node.args
        if is_call(source, {"split_with_sizes", "split"}) and isinstance(index, int) and count:
            given = arguments(source)
            sizes = given.get("split_sizes", given.get("split_size"))
            if given["dim"] in (2, -2):
                before = sizes[:index] if isinstance(sizes, Sequence) else [sizes] * index
                return Rows(given["input"], sum(before), sum(before) + count)
    return None


def factors_of(node: Any, rest: Rows) -> tuple[fx.Node, fx.Node] | None:
    """Return what a node multiplies, and the constants (..., tokens, d) by which it does."""
    if not is_call(node, {"mul"}) or node.kwargs:
        return None
    for value, factors in (node.args, node.args[::-1]):
        if not isinstance(value, fx.Node) or not isinstance(factors, fx.Node):
            continue
        held = factors.meta["val"]
        if (
            held.ndim >= 2
            and held.shape[-2] == rest.last - rest.first
            and value.meta["val"].ndim == 4
        ):
            if rest.source in ancestors(value) and rest.source not in ancestors(factors):
                return value, factors
    return None


def insert_rotation(graph: fx.Graph, found: Match) -> fx.Node | None:
    """Insert the sum of the terms, of all tokens; ``None`` where that is not possible."""
    made = []
    for (value, factors), fill in zip(found.terms, (1.0, 0.0), strict=True):
        lifted = lift(graph, value, found.rest, {})
        if lifted is None:
            return None
        padded = graph.call_function(
            ATEN.constant_pad_nd.default, (factors, [0, 0, found.rest.first, 0], fill)
        )
        padded.meta = {
            **factors.meta,
            "val": ATEN.constant_pad_nd.default(factors.meta["val"], [0, 0, found.rest.first, 0]),
        }
        term = graph.call_function(ATEN.mul.Tensor, (lifted, padded))
        term.meta = {**value.meta, "val": found.source.meta["val"]}
        made.append(term)
    return graph.call_function(ATEN.add.Tensor, tuple(made))


def lift(
    graph: fx.Graph, node: fx.Node, rest: Rows, lifted: dict[fx.Node, fx.Node | None]
) -> fx.Node | None:
    """Return the node of all tokens that a part of a rotation is for some: what is made of each
    token alone."""
    if rows_of(node) == rest:
        return rest.source
    if node in lifted:
        return lifted[node]
    lifted[node] = None
    if node.op != "call_function" or not along_channels(node):
        return None
    sources = {source: lift(graph, source, rest, lifted) for source in node.all_input_nodes}
    if None in sources.values() or not sources:
        return None
    args, kwargs = map_arg((node.args, node.kwargs), sources.__getitem__)
    if base_name(node) in SHAPES:
        sizes = list(node.meta["val"].shape)
        before = node.args[0].meta["val"].shape  # type: ignore[union-attr]
        if len(sizes) < 3 or sizes[:3] != list(before[:3]):
            return None
        args = (args[0], [*sizes[:2], rest.source.meta["val"].shape[2], *sizes[3:]])
    assert callable(node.target)
    made = graph.call_function(node.target, args, kwargs)
    values = map_arg((args, kwargs), lambda n: n.meta["val"])
    made.meta = {**node.meta, "val": node.target(*values[0], **values[1])}
    lifted[node] = made
    return made


def along_channels(node: fx.Node) -> bool:
    """Whether an operator makes each token of the same token."""
    name = base_name(node)
    if name in SAME or name in SHAPES or name == "getitem":
        return True
    if name not in LAST:
        return False
    given = arguments(node)
    ndim = max(source.meta["val"].ndim for source in node.all_input_nodes)
    dim = given.get("start_dim", given.get("dim", 0))
    return isinstance(dim, int) and (dim > 2 or -(ndim - 3) <= dim < 0)
