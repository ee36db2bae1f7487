"""Masks of attention: which keys count for which queries."""

from typing import Any

import numpy as np
import torch
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Affine, Input
from nupes.quantizer.frontend.views import in_order, without_repeats

__all__ = ["LEAST", "masks_of"]

LEAST = -1e3
"""A number that is added to a score and no more than this makes the exponential 0."""


def masks_of(
    call: Call, mask: Any, causal: bool, heads: int, sizes: tuple[int, int, int]
) -> list[str | None]:
    """Return the node of each head's mask, ``None`` where every key counts: 0 for a pair of query
    and key that counts, and far below for others. ``sizes`` are rows and columns of queries, and
    keys."""
    height, width, keys = sizes
    queries = height * width
    if causal:
        allowed = np.tri(queries, keys, dtype=bool)[None]
    elif mask is None:
        return [None] * heads
    elif call.is_computed(mask):
        return [given(call, mask, keys)] * heads
    else:
        allowed = allowed_pairs(call, mask, heads, queries, keys)
    if not allowed.any(axis=2).all():
        call.refuse("a mask must leave every query a key, not none")
    names = [held(call, table.reshape(height, width, keys)) for table in allowed]
    return names * (heads // len(names))


def allowed_pairs(call: Call, mask: fx.Node, heads: int, queries: int, keys: int) -> np.ndarray:
    """Return whether pairs count (heads, queries, keys), or the same for all heads (1, ...)."""
    table = torch.as_tensor(call.values.constants[mask]).detach()
    if table.dtype != torch.bool:
        counts = table == 0
        if not bool((counts | (table <= LEAST)).all()):
            call.refuse(f"a mask must be 0 or at most {LEAST:g}, not another number")
        table = counts
    table = table.reshape((1,) * (4 - table.ndim) + tuple(table.shape))
    if table.shape[0] > 1:
        call.refuse("a mask must be the same for every image of the batch, or an input")
    every = torch.broadcast_to(table[0], (table.shape[1], queries, keys))
    return (every if every.shape[0] in (1, heads) else every[:1]).numpy()


def held(call: Call, allowed: np.ndarray) -> str | None:
    """Return the node of a constant mask (h, w, keys), ``None`` if every key counts."""
    if allowed.all():
        return None
    return call.hold(np.where(allowed, 0.0, LEAST))


def given(call: Call, mask: fx.Node, keys: int) -> str:
    """Return the node of a mask that is an input of the network: a number for each key, which may
    go through arithmetic that does not change the order of numbers."""
    node = call.viewed(mask)
    graph = call.values.graph
    scale, shift, source = np.ones(node.shape[2]), np.zeros(node.shape[2]), node
    while isinstance(source.op, Affine):
        scale, shift = scale * source.op.scale, scale * source.op.shift + shift
        source = graph.nodes[source.inputs[0]]
    once = without_repeats(call.places(mask))
    whole = source.shape == (1, 1, keys) and in_order(once, source.shape)
    if not isinstance(source.op, Input) or not whole:
        call.refuse(
            "a mask that is computed must be a sum of numbers and an input (batch, keys), one for "
            f"each of {keys} keys, not a tensor {full_shape(mask)} of others"
        )
    if (scale <= 0).any():
        call.refuse("a mask must be lower for keys that do not count, not higher")
    for name, other in graph.nodes.items():
        op = other.op
        if isinstance(op, Affine) and other.inputs == (source.name,):
            if np.array_equal(op.scale, scale) and np.array_equal(op.shift, shift):
                return name
    return call.add(Affine(scale, shift), (source.name,), source.shape, "attention", "mask")
