"""Attention: scores, softmax's numerators and weighted means for each head."""

from typing import Any

import numpy as np
from torch import exp, fx

from nupes.model.operators import Matmul, Select, SubtractMax, WeightedMean
from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.functions import COUNTS, Function
from nupes.quantizer.frontend.graph import Add, Affine, Concat, Node
from nupes.quantizer.frontend.handlers.masks import Added, added_to_scores, masked_input, with_mask
from nupes.quantizer.frontend.registry import handles

__all__ = ["attend", "multiply"]

EXPONENTIAL = Function("exp", lambda x: exp(x.clamp(max=0)), 0.0, 1.0)
"""Of distances from the largest score, which are at most 0."""


@handles("scaled_dot_product_attention", ignores=("enable_gqa",))
def attend(
    call: Call,
    query: fx.Node,
    key: fx.Node,
    value: fx.Node,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
) -> str:
    """Translate attention of queries, keys and values (b, heads, t, d) or (b, t, d)."""
    if dropout_p:
        call.refuse("dropout must be off; export the module after eval()")
    heads = heads_of(call, query, key, value)
    added = added_to_scores(call, attn_mask, is_causal, *sizes_of(heads))
    factor = value_shape(query)[-1] ** -0.5 if scale is None else float(scale)
    return join_heads(call, weigh(call, heads, added, factor))


@handles("biased_attention")
def attend_with_bias(
    call: Call,
    query: fx.Node,
    key: fx.Node,
    value: fx.Node,
    attn_mask: fx.Node,
    bias: fx.Node,
    scale: float,
) -> str:
    """Translate attention with a mask of keys that is an input, and a bias that is a constant."""
    heads = heads_of(call, query, key, value)
    count, sizes = sizes_of(heads)
    added = added_to_scores(call, bias, False, count, sizes)
    return join_heads(call, weigh(call, heads, with_mask(call, added, attn_mask, sizes[2]), scale))


Heads = list[tuple[Node, list[np.ndarray]]]
"""The nodes of queries, keys and values, and which of their channels each head is."""


def heads_of(call: Call, *parts: fx.Node) -> Heads:
    """Return the heads of queries, keys and values."""
    heads = [call.heads(part) for part in parts]
    count = len(heads[0][1])
    if any(count % len(part) for _, part in heads):
        call.refuse("queries must have as many heads as keys and values, or a multiple of them")
    return heads


def sizes_of(heads: Heads) -> tuple[int, tuple[int, int, int]]:
    """Return how many heads queries have; their rows and columns, and how many keys there are."""
    (height, width, _), keys = heads[0][0].shape, heads[1][0].shape
    return len(heads[0][1]), (height, width, keys[0] * keys[1])


def weigh(call: Call, heads: Heads, added: list[Added], factor: float) -> list[str]:
    """Add all heads; return the names of their means."""
    count, means = len(heads[0][1]), []
    # Heads of queries share those of keys and values one after another.
    shared = [np.repeat(np.arange(len(part)), count // len(part)) for _, part in heads]
    for number in range(count):
        channels = [part[own[number]] for (_, part), own in zip(heads, shared, strict=True)]
        nodes = [
            take(call, node, some, f"{what}_{number}")
            for (node, _), some, what in zip(heads, channels, ("q", "k", "v"), strict=True)
        ]
        means.append(head(call, nodes, added[number], factor, number))
    return means


@handles("masked_mean")
def average(call: Call, x: fx.Node, mask: fx.Node) -> str:
    """Translate the mean (b, c) of those tokens (b, t, c) that a mask shows."""
    node, (channels, *others) = call.heads(x)
    if others or not np.array_equal(channels, np.arange(node.shape[2])):
        call.refuse("a mean of tokens must be of all channels of a sequence of tokens")
    keys = node.shape[0] * node.shape[1]
    hidden = masked_input(call, mask, keys)
    shown = call.add(COUNTS, (hidden,), (1, 1, keys), "masked_mean", "counts")
    return call.add(WeightedMean(keys), (shown, node.name), (1, 1, len(channels)), "masked_mean")


def multiply(call: Call, left: fx.Node, right: fx.Node) -> str:
    """Translate the product of computed matrices (b, heads, n, t) and (b, heads, t, d), or of (b,
    n, t) and (b, t, d)."""
    (rows, some), (columns, others) = call.heads(left), call.heads(right)
    if len(some) != len(others):
        call.refuse("both matrices of a product must have one number of heads")
    made, nodes = [], call.values.graph.nodes
    for number, channels in enumerate(zip(some, others, strict=True)):
        first, second = (
            nodes[take(call, node, part, f"{side}_{number}")]
            for node, part, side in zip((rows, columns), channels, ("left", "right"), strict=True)
        )
        shape = (*first.shape[:2], second.shape[2])
        op = Matmul(first.shape[2], False)
        made.append(call.add(op, (first.name, second.name), shape, "matmul", f"sums_{number}"))
    return join_heads(call, made)


def join_heads(call: Call, heads: list[str]) -> str:
    """Let the call's value (heads, t, d) be a view of all heads' channels, one after another."""
    tokens, sizes = call.values.graph.nodes[heads[0]].shape[:2], value_shape(call.node)
    name, width = heads[0], len(heads) * sizes[-1]
    if len(heads) > 1:
        name = call.add(Concat(), tuple(heads), (*tokens, width), "attention")
    places = np.arange(width * tokens[0] * tokens[1], dtype=np.int32)
    places = places.reshape(len(heads), sizes[-1], -1).swapaxes(1, 2).reshape(sizes)
    call.views[call.node] = places
    return name


def take(call: Call, node: Node, channels: np.ndarray, part: str) -> str:
    """Add the selection of a head's channels, unless it is all of them."""
    if np.array_equal(channels, np.arange(node.shape[2])):
        return node.name
    shape = (*node.shape[:2], len(channels))
    return call.add(Select.of(channels), (node.name,), shape, "attention", part)


def head(call: Call, nodes: list[str], added: Added, factor: float, number: int) -> str:
    """Add one head; return the name of its means."""
    graph: Any = call.values.graph
    query, key, value = (graph.nodes[name] for name in nodes)
    height, width, terms = query.shape
    keys = key.shape[0] * key.shape[1]
    shape = (height, width, keys)

    def add(op: Any, inputs: tuple[str, ...], sizes: tuple[int, int, int], part: str) -> str:
        return call.add(op, inputs, sizes, "attention", f"{part}_{number}")

    scores = add(Matmul(terms, True), (query.name, key.name), shape, "scores")
    shift = np.zeros(keys) if added.shift is None else added.shift
    scaled = Affine(np.full(keys, factor), shift)
    scores = add(scaled, (scores,), shape, "scaled")
    if added.bias is not None:
        scores = add(Add(), (scores, added.bias), shape, "biased")
    operands = (scores,) if added.mask is None else (scores, added.mask)
    distances = add(SubtractMax(), operands, shape, "distances")
    weights = add(EXPONENTIAL, (distances,), shape, "weights")
    sizes = (height, width, value.shape[2])
    return add(WeightedMean(keys), (weights, value.name), sizes, "mean")
