"""Means of the tokens that count, as sentence encoders write them, as one operator.

``(x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)`` for a mask (batch, tokens) of ones and
zeros, whatever casts, broadcasts and bounds stand in between: what the factors and the divisor are
is found by trying inputs, as for the masks of attention.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.key_masks import add_sum, evaluate, source_of, trials
from nupes.quantizer.frontend.registry import arguments, is_call

__all__ = ["is_quotient", "join_means", "masked_mean"]


@torch.library.custom_op("nupes::masked_mean", mutates_args=())
def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (b, c) of tokens (b, t, c), those left out for which a mask (b, 1, 1, t) is
    negative."""
    counted = (mask.flatten(1) >= 0).to(x.dtype)
    return (counted[:, None] @ x).squeeze(1) / counted.sum(1, keepdim=True)


class Match(NamedTuple):
    """Tokens, by what they are multiplied or where they become 0, and what divides their sum."""

    tokens: fx.Node
    factor: fx.Node
    hidden: bool
    divisor: fx.Node


def is_quotient(node: fx.Node) -> bool:
    """Whether a node is a sum over tokens, divided by another node."""
    return match(node) is not None


def match(node: fx.Node) -> Match | None:
    """Return what may be a mean of the tokens that count, ``None`` for any other node."""
    if not is_call(node, {"div"}) or node.kwargs or len(node.all_input_nodes) != 2:
        return None
    total: Any = node.args[0]
    divisor: Any = node.args[1]
    if not is_call(total, {"sum"}):
        return None
    given = arguments(total)
    if given.get("dim") not in ([1], [-2]) or given.get("keepdim"):
        return None
    source: Any = given["input"]
    if not isinstance(source, fx.Node) or source.meta["val"].ndim != 3:
        return None
    if is_call(source, {"mul"}) and len(source.all_input_nodes) == 2:
        tokens: Any = source.args[0]
        factor: Any = source.args[1]
        if tokens.meta["val"].shape != source.meta["val"].shape or is_call(tokens, {"expand"}):
            tokens, factor = factor, tokens
        return Match(tokens, factor, False, divisor)
    if is_call(source, {"masked_fill"}) and source.args[2] == 0:
        filled: Any = source.args
        return Match(filled[0], filled[1], True, divisor)
    return None


def join_means(
    graph: fx.Graph, inputs: Iterable[fx.Node], constants: dict[fx.Node, Tensor]
) -> frozenset[fx.Node]:
    """Replace such means by operators, and return the inputs that say which tokens count; the
    ``graph`` is changed."""
    inputs, flags = list(inputs), set()
    for node in list(graph.nodes):
        found = match(node)
        if found is None:
            continue
        source = source_of(found.factor, inputs)
        same = source is not None and source_of(found.divisor, inputs) is source
        if source is None or not same or not counts_tokens(found, source, constants):
            continue
        with graph.inserting_before(node):
            counted = add_sum(graph, source)
            mean = graph.call_function(torch.ops.nupes.masked_mean.default, (found.tokens, counted))
        mean.meta = dict(node.meta)
        node.replace_all_uses_with(mean)
        graph.erase_node(node)
        flags.add(source)
    return frozenset(flags)


def counts_tokens(found: Match, source: fx.Node, constants: dict[fx.Node, Tensor]) -> bool:
    """Whether the factor of each token is the input's number for it, and the divisor their sum."""
    value, (batch, tokens, channels) = source.meta["val"], found.tokens.meta["val"].shape
    if value.ndim != 2 or value.is_floating_point() or value.shape != (batch, tokens):
        return False
    for hidden in trials(tokens, batch):
        given = (~hidden).to(value.dtype)
        factor = evaluate(found.factor, source, given, constants)
        divisor = evaluate(found.divisor, source, given, constants)
        wanted = hidden if found.hidden else ~hidden
        wanted = wanted[..., None].expand(batch, tokens, channels)
        count = (~hidden).sum(1, keepdim=True).expand(batch, channels)
        try:
            same = bool((factor.expand_as(wanted).bool() == wanted).all())
            known = found.hidden or bool(((factor == 0) | (factor == 1)).all())
            if not (same and known and bool((divisor.expand_as(count) == count).all())):
                return False
        except RuntimeError:  # of other shapes
            return False
    return True
