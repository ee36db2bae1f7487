"""Attention: scores, softmax's numerators and weighted means for each head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import exp, fx

from nupes.model.operators import Matmul, SubtractMax, WeightedMean
from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.functions import COUNTS, Function
from nupes.quantizer.frontend.graph import Add, Affine, Node, Op
from nupes.quantizer.frontend.handlers.masks import Added, added_to_scores, masked_input, with_mask
from nupes.quantizer.frontend.key_masks import LEAST
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.windows import (
    Head,
    Heads,
    heads_of,
    in_raster_order,
    join_heads,
    take,
    turn,
    whole_heads,
)

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
    parts = Parts(call, query, key, value, ordered=attn_mask is not None or is_causal)
    added = added_to_scores(call, attn_mask, is_causal, parts.lead, parts.sizes)
    factor = value_shape(query)[-1] ** -0.5 if scale is None else float(scale)
    return parts.weigh(added, factor)


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
    """Translate attention with a mask of keys that is an input, and constants that are added: a
    mask of pairs, biases, or both."""
    parts = Parts(call, query, key, value)
    added = added_to_scores(call, bias, False, parts.lead, parts.sizes)
    return parts.weigh(with_mask(call, added, attn_mask, parts.sizes[2]), scale)


@handles("mask_of_keys")
def refuse_mask(call: Call, source: fx.Node) -> str:
    """Refuse what is made of an input (b, keys) of integers and is no mask of keys."""
    program = call.values.graph.program
    given = source if program is None else program.source(source)
    call.refuse(
        f"a mask made of input {given.name!r} must hide keys from all queries alike, by {LEAST:g} "
        "or less, and change nothing else, beside what is the same for every input; mask keys "
        "alone, also for queries that do not count"
    )


class Parts:
    """Queries, keys and values of all heads; the dimensions ``lead`` before the tokens of queries,
    and the ``sizes`` of a head's scores: rows and columns of queries, and keys. Where their order
    says nothing, as a mask is not ``ordered`` by it, tokens may be taken in any."""

    def __init__(self, call: Call, *parts: fx.Node, ordered: bool = True) -> None:
        self.call, self.lead = call, value_shape(parts[0])[:-2]
        self.found = [heads_of(call, part) for part in parts]
        if not ordered:
            self.found = in_any_order(self.found)
        count = len(self.found[0][1])
        if any(count % len(heads) for _, heads in self.found):
            call.refuse("queries must have as many heads as keys and values, or a multiple of them")
        self.turned = [heads[0].turned for _, heads in self.found]
        self.first = self.take(0)
        (height, width, _), keys = self.first[0].shape, self.first[1].shape
        self.sizes = height, width, keys[2] if self.turned[1] else keys[0] * keys[1]

    def take(self, number: int) -> list[Node]:
        """Return the nodes of queries, keys and values of a head, which are added; each token of
        queries is a pixel. Heads of queries share those of keys and values one after another."""
        count, nodes = len(self.found[0][1]), self.call.values.graph.nodes
        found = [
            nodes[take(self.call, node, heads[number * len(heads) // count], f"{what}_{number}")]
            for (node, heads), what in zip(self.found, ("q", "k", "v"), strict=True)
        ]
        if self.turned[0]:
            found[0] = turn(self.call, found[0], f"turned_{number}")
        return found

    def weigh(self, added: list[Added], factor: float) -> str:
        """Add all heads; return the name of the node of their means."""
        call, made = self.call, []
        for number, some in enumerate(added):
            query, key, value = self.take(number) if number else self.first
            scores = scores_of(call, query, key, self.turned[1], some, factor, number)
            if self.turned[2]:
                made.append(weigh_channels(call, scores, value, number))
            else:
                made.append(mean_of(call, scores, value, number))
        (node, heads), (others, values) = self.found[0], self.found[2]
        if not any(self.turned) and share_queries(heads, self.found[1][1]):
            return join_heads(call, *self.found[1], made)
        if self.turned[2]:  # what is made of values lies where they do
            shared = [values[number * len(values) // len(heads)] for number in range(len(heads))]
            return join_heads(call, others, shared, made)
        if self.turned[0]:
            node = call.values.graph.nodes[made[0]]
            heads = whole_heads(node, len(heads))
        return join_heads(call, node, heads, made)


def in_any_order(found: Sequence[Heads]) -> list[Heads]:
    """Return queries, keys and values whose tokens are in raster order, those of keys and values if
    both are in the same one."""
    same = len(found[1][1]) == len(found[2][1]) and all(
        np.array_equal(key.pixels, value.pixels)
        for key, value in zip(found[1][1], found[2][1], strict=True)
    )
    if not same or any(heads[0].turned for _, heads in found):
        return list(found)
    return [(node, [in_raster_order(head, node) for head in heads]) for node, heads in found]


def share_queries(queries: Sequence[Head], keys: Sequence[Head]) -> bool:
    """Whether several windows of keys have the same queries, as many as they have keys: what is
    made of these is laid where the keys are."""
    alike = len(queries) == len(keys) and len(queries[0].pixels) == len(keys[0].pixels)
    some, more = (len({head.pixels.tobytes() for head in heads}) for heads in (queries, keys))
    return alike and some < more


@handles("masked_mean")
def average(call: Call, x: fx.Node, mask: fx.Node) -> str:
    """Translate the mean (b, c) of those tokens (b, t, c) that a mask shows."""
    node, (whole, *others) = heads_of(call, x)
    channels = whole.channels
    if others or not whole.whole or not np.array_equal(channels, np.arange(node.shape[2])):
        call.refuse("a mean of tokens must be of all channels of a sequence of tokens")
    keys = node.shape[0] * node.shape[1]
    hidden = masked_input(call, mask, keys)
    shown = call.add(COUNTS, (hidden,), (1, 1, keys), "masked_mean", "counts")
    return call.add(WeightedMean(keys), (shown, node.name), (1, 1, len(channels)), "masked_mean")


def multiply(call: Call, left: fx.Node, right: fx.Node) -> str:
    """Translate the product of computed matrices (b, heads, n, t) and (b, heads, t, d), or of (b,
    n, t) and (b, t, d)."""
    (rows, some), (columns, others) = heads_of(call, left), heads_of(call, right)
    if len(some) != len(others):
        call.refuse("both matrices of a product must have one number of heads")
    made, nodes = [], call.values.graph.nodes
    turned = some[0].turned, others[0].turned
    # A product whose second matrix is turned may be made turned itself: the larger one streams.
    larger = len(others[0].pixels) > len(some[0].pixels)
    swapped, keys = turned[1] and (turned[0] or larger), turned[1] and not turned[0]
    # Of two that would both have to be turned, one is, that of fewer channels.
    other = turned == (True, False) and len(others[0].channels) < len(some[0].channels)
    for number, parts in enumerate(zip(some, others, strict=True)):
        first, second = (
            nodes[take(call, node, part, f"{side}_{number}")]
            for node, part, side in zip((rows, columns), parts, ("left", "right"), strict=True)
        )
        if swapped or other:
            first, second = second, first
        if turned[0] and not swapped:
            first = turn(call, first, f"turned_{number}")
        shape = (*first.shape[:2], pixels_of(second) if keys else second.shape[2])
        op = Matmul(first.shape[2], keys)
        made.append(call.add(op, (first.name, second.name), shape, "matmul", f"sums_{number}"))
    if swapped:
        return join_heads(call, columns, [replace(head, turned=True) for head in others], made)
    if turned[0]:
        heads = whole_heads(nodes[made[0]], len(made))
        heads = [replace(head, turned=other) for head in heads]
        return join_heads(call, nodes[made[0]], heads, made)
    return join_heads(call, rows, some, made)


def pixels_of(node: Node) -> int:
    """Return how many pixels a map has."""
    return node.shape[0] * node.shape[1]


def scores_of(
    call: Call, query: Node, key: Node, turned: bool, added: Added, factor: float, number: int
) -> Node:
    """Add softmax's numerators of a head: of queries, and keys whose tokens are pixels, or channels
    if they are ``turned``."""
    height, width, terms = query.shape
    keys = key.shape[2] if turned else pixels_of(key)
    shape = (height, width, keys)
    scores = part_of(call, Matmul(terms, not turned), (query, key), shape, f"scores_{number}")
    shift = np.zeros(keys) if added.shift is None else added.shift
    scaled = Affine(np.full(keys, factor), shift)
    scores = part_of(call, scaled, (scores,), shape, f"scaled_{number}")
    nodes = call.values.graph.nodes
    if added.bias is not None:
        biased = (scores, nodes[added.bias])
        scores = part_of(call, Add(), biased, shape, f"biased_{number}")
    masks = (name for name in (added.mask, added.second) if name is not None)
    operands = (scores, *(nodes[name] for name in masks))
    distances = part_of(call, SubtractMax(), operands, shape, f"distances_{number}")
    return part_of(call, EXPONENTIAL, (distances,), shape, f"weights_{number}")


def mean_of(call: Call, weights: Node, value: Node, number: int) -> str:
    """Add the weighted means of values, each token a pixel."""
    height, width, keys = weights.shape
    shape = height, width, value.shape[2]
    return part_of(call, WeightedMean(keys), (weights, value), shape, f"mean_{number}").name


def weigh_channels(call: Call, weights: Node, value: Node, number: int) -> str:
    """Add the weighted means of values whose tokens are channels: each pixel's channels, weighted
    by softmax itself, which is the mean of a matrix of ones on the diagonal."""
    height, width, keys = weights.shape
    ones = call.values.graph.nodes[call.hold(np.eye(keys).reshape(keys, 1, keys))]
    shares = part_of(call, WeightedMean(keys), (weights, ones), weights.shape, f"shares_{number}")
    shape = *value.shape[:2], height * width
    return part_of(call, Matmul(keys, True), (value, shares), shape, f"mean_{number}").name


def part_of(
    call: Call, op: Op, operands: tuple[Node, ...], shape: tuple[int, int, int], part: str
) -> Node:
    """Add a part of attention; return its node."""
    name = call.add(op, tuple(node.name for node in operands), shape, "attention", part)
    return call.values.graph.nodes[name]
