"""Root-mean-square norms that are written out, as the one operator that they are.

``x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)`` becomes ``rms_norm(x, (c,), None, eps)``,
whatever casts stand in between; ``x / torch.sqrt(...)`` does as well.
"""

from typing import Any, NamedTuple

import torch
from torch import fx

from nupes.quantizer.frontend.registry import arguments, base_name, copy_graph, is_call

__all__ = ["join_norms"]

CASTS = {"to", "_to_copy", "clone", "contiguous", "detach", "alias"}
"""Operators that give their operand as it is, up to its type."""


class Match(NamedTuple):
    """What is normalized, its channels, and what is added to the mean of squares."""

    source: fx.Node
    channels: int
    epsilon: float


def join_norms(graph: fx.Graph) -> fx.Graph:
    """Return a graph with such norms as one operator each: itself, or a changed copy."""
    if not any(match(node) for node in graph.nodes):
        return graph
    copy = copy_graph(graph)
    for node in list(copy.nodes):
        found = match(node)
        if found is None:
            continue
        with copy.inserting_before(node):
            joined = copy.call_function(
                torch.ops.aten.rms_norm.default,
                (found.source, [found.channels], None, found.epsilon),
            )
        joined.meta = dict(node.meta)
        node.replace_all_uses_with(joined)
        copy.erase_node(node)
    return copy


def match(node: fx.Node) -> Match | None:
    """Return what the last operator of a norm normalizes, ``None`` for any other operator."""
    if not is_call(node, {"mul", "div"}) or len(node.args) != 2 or node.kwargs:
        return None
    first, second = node.args
    if base_name(node) == "div":
        return norm_of(first, second, "sqrt")
    return norm_of(first, second, "rsqrt") or norm_of(second, first, "rsqrt")


def norm_of(value: Any, factor: Any, root: str) -> Match | None:
    """Return what is normalized if ``factor`` is the root of a value's mean square."""
    factor, value = without_casts(factor), without_casts(value)
    if is_call(factor, {"pow"}) and factor.args[1] == (-0.5 if root == "rsqrt" else 0.5):
        total = factor.args[0]
    elif is_call(factor, {root}):
        total = factor.args[0]
    else:
        return None
    if not is_call(total, {"add"}) or not isinstance(total.args[1], int | float) or total.kwargs:
        return None
    mean, epsilon = without_casts(total.args[0]), float(total.args[1])
    if not is_call(mean, {"mean"}) or epsilon <= 0:
        return None
    given = arguments(mean)
    squares, last = without_casts(given["input"]), mean.meta["val"].ndim - 1
    if given.get("dim") not in ([-1], [last]) or not given["keepdim"]:
        return None
    if is_call(squares, {"pow"}) and squares.args[1] == 2:
        sources = squares.args[:1]
    elif is_call(squares, {"mul", "square"}):
        sources = squares.args
    else:
        return None
    if not all(without_casts(source) is value for source in sources):
        return None
    return Match(value, int(value.meta["val"].shape[-1]), epsilon)


def without_casts(value: Any) -> Any:
    """Return what a value is, before its casts from other real numbers."""
    while is_call(value, CASTS):
        before: Any = value.args[0]
        if not all(item.meta["val"].is_floating_point() for item in (before, value)):
            break
        value = before
    return value
