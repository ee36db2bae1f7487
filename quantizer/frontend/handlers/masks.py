"""What is added to scores: masks, which say which keys count for which queries, and biases."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Affine, Constant, Input
from nupes.quantizer.frontend.key_masks import LEAST
from nupes.quantizer.frontend.views import in_order, without_repeats

__all__ = ["Added", "added_to_scores", "masked_input", "with_mask"]

SAME = 1e-6
"""How far apart numbers of one query may be, in parts of the largest ones, to be one: float32."""


@dataclass(frozen=True, eq=False)
class Added:
    """What is added to the scores of a head: the nodes of a ``mask``, 0 for a pair of query and key
    that counts and far below for others, of a ``second`` one, and of a ``bias``, and a ``shift``
    (keys,) that is the same for all queries; ``None`` where there is none."""

    mask: str | None = None
    bias: str | None = None
    shift: np.ndarray | None = None
    second: str | None = None


def added_to_scores(
    call: Call, mask: Any, causal: bool, lead: tuple[int, ...], sizes: tuple[int, int, int]
) -> list[Added]:
    """Return what is added to each head's scores. ``lead`` are the dimensions of heads, such as
    (windows, heads); ``sizes`` are rows and columns of queries, and keys."""
    height, width, keys = sizes
    queries, heads = height * width, math.prod(lead)
    if causal:
        tables = np.where(np.tri(queries, keys, dtype=bool), 0.0, LEAST)[None]
    elif mask is None:
        return [Added()] * heads
    elif call.is_computed(mask):
        return [Added(masked_input(call, mask, keys))] * heads
    else:
        tables = constant_tables(call, mask, lead, queries, keys)
    if not (tables > LEAST).any(axis=2).all():
        call.refuse("a mask must leave every query a key, not none")
    known: dict[bytes, Added] = {}
    found = []
    for table in tables:
        key = table.tobytes()
        if key not in known:
            known[key] = held(call, table.reshape(height, width, keys))
        found.append(known[key])
    return found * (heads // len(found))


def constant_tables(
    call: Call, mask: fx.Node, lead: tuple[int, ...], queries: int, keys: int
) -> np.ndarray:
    """Return what a constant adds to each head's scores (heads, queries, keys), or to all heads' in
    the same way (1, ...), float64; ``LEAST`` where a pair does not count."""
    table = torch.as_tensor(call.values.constants[mask]).detach()
    if table.dtype == torch.bool:
        table = torch.where(table, 0.0, LEAST)
    if bool(table.isnan().any()):
        call.refuse("what is added to scores must be numbers, not NaN")
    dims = len(lead) + 3
    if table.ndim > dims:
        call.refuse(f"a mask must be (batch, heads, queries, keys), not {tuple(table.shape)}")
    table = table.double().reshape((1,) * (dims - table.ndim) + tuple(table.shape))
    if not bool((table == table[:1]).all()):
        call.refuse("a mask must be the same for every image of the batch, or an input")
    given = tuple(table.shape[1:-2])
    if any(size not in (1, wanted) for size, wanted in zip(given, lead, strict=True)):
        call.refuse(f"a mask must be for all heads or for each of {lead}, not for {given}")
    shared = (1,) * len(lead) if set(given) <= {1} else lead
    every = torch.broadcast_to(table[0], (*shared, queries, keys)).clamp(min=LEAST)
    return every.reshape(-1, queries, keys).numpy()


def with_mask(call: Call, bias: list[Added], mask: fx.Node, keys: int) -> list[Added]:
    """Return what is added to each head's scores, constants, and a mask that is an input."""
    node, nodes = masked_input(call, mask, keys), call.values.graph.nodes
    found = []
    for item in bias:
        name = item.bias
        if name is not None:
            op = nodes[name].op
            assert isinstance(op, Constant)
            name = call.hold(no_more_than_zero(op.values))
        found.append(Added(node, name, item.shift, item.mask))
    return found


def held(call: Call, table: np.ndarray) -> Added:
    """Return what a constant (h, w, keys) is: a mask, and a bias or a shift of keys."""
    hidden = table <= LEAST
    mask = call.hold(np.where(hidden, LEAST, 0.0)) if hidden.any() else None
    if not table[~hidden].any():
        return Added(mask)
    shift = key_shift(table, hidden)
    if shift is not None:
        return Added(mask, shift=shift)
    if mask is None:
        return Added(bias=call.hold(table))
    return Added(mask, call.hold(no_more_than_zero(np.where(hidden, -np.inf, table))))


def no_more_than_zero(table: np.ndarray) -> np.ndarray:
    """Return a bias (h, w, keys) less the largest number of each query, which softmax takes away
    again: added to what is masked it leaves that masked. Minus infinity becomes 0."""
    lowered = table - table.max(axis=2, keepdims=True)
    return np.where(np.isinf(lowered), 0.0, lowered)


def key_shift(table: np.ndarray, hidden: np.ndarray) -> np.ndarray | None:
    """Return numbers of keys that are a bias (h, w, keys) up to a number of each query, which
    softmax takes away again, where pairs are not ``hidden``; ``None`` if it has others."""
    rows, shown = table.reshape(-1, table.shape[2]), ~hidden.reshape(-1, table.shape[2])
    most = shown.sum(axis=1).argmax()
    if (shown & ~shown[most]).any():
        return None
    shift = np.where(shown[most], rows[most], 0.0)
    shift -= (shift[shown[most]].min() + shift[shown[most]].max()) / 2
    rest = rows - shift
    low = np.where(shown, rest, np.inf).min(axis=1)
    high = np.where(shown, rest, -np.inf).max(axis=1)
    same = high - low <= SAME * np.abs(rows[shown]).max()
    return np.where(shown[most], shift, 0.0) if same.all() else None


def masked_input(call: Call, mask: fx.Node, keys: int) -> str:
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
