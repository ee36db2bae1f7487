"""Norms that are written out, as the one operator that they are.

``x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)`` becomes ``rms_norm(x, (c,), None, eps)``,
whatever casts stand in between; ``x / torch.sqrt(...)`` does as well. Where ``x`` is a tensor less
its mean, it is the ``layer_norm`` of that tensor, the mean of squares also written as ``var``.
"""

from typing import Any, NamedTuple

import torch
from torch import fx

from nupes.quantizer.frontend.registry import (
    arguments,
    base_name,
    is_call,
    rewrite,
    without_casts,
)

__all__ = ["join_norms"]


class Match(NamedTuple):
    """What is normalized, along which dimension, less its mean or not, and what is added to the
    mean of squares."""

    source: fx.Node
    dim: int
    centered: bool
    epsilon: float


def join_norms(graph: fx.Graph) -> fx.Graph:
    """Return a graph with such norms as one operator each: itself, or a changed copy."""
    return rewrite(graph, match, insert_norm)


def insert_norm(graph: fx.Graph, found: Match) -> fx.Node:
    """Insert a norm, channels moved to the last dimension and back where they are elsewhere."""
    aten, last = torch.ops.aten, found.source.meta["val"].ndim - 1
    order = [*(dim for dim in range(last + 1) if dim != found.dim), found.dim]
    back = [order.index(dim) for dim in range(last + 1)]

    def moved(node: fx.Node, dims: list[int]) -> fx.Node:
        if found.dim == last:
            return node
        moving = graph.call_function(aten.permute.default, (node, dims))
        moving.meta = {**found.source.meta, "val": node.meta["val"].permute(dims)}
        return moving

    source = moved(found.source, order)
    shape = [int(source.meta["val"].shape[-1])]
    target, given = aten.rms_norm.default, (source, shape, None, found.epsilon)
    if found.centered:
        target, given = aten.layer_norm.default, (source, shape, None, None, found.epsilon)
    norm = graph.call_function(target, given)
    norm.meta = dict(source.meta)
    return moved(norm, back)


def match(node: fx.Node) -> Match | None:
    """Return what the last operator of a norm normalizes, ``None`` for any other operator."""
    if not is_call(node, {"mul", "div"}) or len(node.args) != 2 or node.kwargs:
        return None
    first, second = node.args
    if base_name(node) == "div":
        return norm_of(first, second, "sqrt")
    return norm_of(first, second, "rsqrt") or norm_of(second, first, "rsqrt")


def norm_of(value: Any, factor: Any, root: str) -> Match | None:
    """Return what is normalized if ``factor`` is the root of a value's mean square, or of the
    variance of what it was before its mean was subtracted."""
    factor, value = without_casts(factor), without_casts(value)
    if is_call(factor, {"pow"}) and factor.args[1] == (-0.5 if root == "rsqrt" else 0.5):
        total = factor.args[0]
    elif is_call(factor, {root}):
        total = factor.args[0]
    else:
        return None
    if not is_call(total, {"add"}) or not isinstance(total.args[1], int | float) or total.kwargs:
        return None
    spread, epsilon = without_casts(total.args[0]), float(total.args[1])
    found = variance_of(spread) or square_of(spread)
    if found is None or epsilon <= 0:
        return None
    source, dim, centered = found
    if centered and centred_along(value, dim) is source:
        return Match(source, dim, True, epsilon)
    if not centered and value is source:
        before = centred_along(value, dim)
        return Match(before or source, dim, before is not None, epsilon)
    return None


def variance_of(node: Any) -> tuple[fx.Node, int, bool] | None:
    """Return of what along which dimension a node is the variance, by the number of values or as a
    mean of squared deviations, and that a mean was subtracted."""
    found = square_of(node)
    if found is not None:
        source, dim, _ = found
        before = centred_along(source, dim)
        return None if before is None else (before, dim, True)
    if not is_call(node, {"var"}):
        return None
    given = arguments(node)
    biased = given.get("unbiased") is False or given.get("correction") == 0
    dim = only_dim(node, given)
    return (without_casts(given["input"]), dim, True) if biased and dim is not None else None


def square_of(node: Any) -> tuple[fx.Node, int, bool] | None:
    """Return of what along which dimension a node is the mean square, and that no mean was
    subtracted."""
    if not is_call(node, {"mean"}):
        return None
    given = arguments(node)
    squares, dim = without_casts(given["input"]), only_dim(node, given)
    if is_call(squares, {"pow"}) and squares.args[1] == 2:
        sources = squares.args[:1]
    elif is_call(squares, {"mul", "square"}):
        sources = squares.args
    else:
        return None
    source, *others = (without_casts(source) for source in sources)
    same = isinstance(source, fx.Node) and all(other is source for other in others)
    return (source, dim, False) if same and dim is not None else None


def centred_along(value: Any, dim: int) -> fx.Node | None:
    """Return what a value was before its mean along a dimension was subtracted."""
    if not is_call(value, {"sub"}) or value.kwargs or len(value.args) != 2:
        return None
    source, mean = (without_casts(part) for part in value.args)
    if not is_call(mean, {"mean"}):
        return None
    given = arguments(mean)
    same = without_casts(given["input"]) is source and only_dim(mean, given) == dim
    return source if same else None


def only_dim(node: fx.Node, given: dict[str, Any]) -> int | None:
    """Return the dimension, last or second, along which a node reduces and which it keeps."""
    dims, ndim = given.get("dim"), node.meta["val"].ndim
    if not isinstance(dims, list | tuple) or len(dims) != 1 or not given["keepdim"]:
        return None
    dim = dims[0] % ndim
    return dim if dim in (1, ndim - 1) else None
