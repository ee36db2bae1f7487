"""Means of the tokens that count, as sentence encoders write them, as one operator.

``(x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)`` for a mask (batch, tokens) of ones and
zeros, whatever casts, broadcasts and bounds stand in between: what the factors and the divisor are
is found by trying inputs, as for the masks of attention.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.evaluation import evaluate, source_of, trials
from nupes.quantizer.frontend.flags import Flags, Inputs, add_sum
from nupes.quantizer.frontend.registry import arguments, is_call

__all__ = ["is_quotient", "join_means", "masked_mean"]


NEAR = 1e-5
"""How far from the number of tokens the divisor may be, in parts of it: what keeps it from 0."""


@torch.library.custom_op("nupes::masked_mean", mutates_args=())
def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (b, c) of tokens (b, t, c), those left out for which a mask (b, 1, 1, t) is
    negative."""
    counted = (mask.flatten(1) >= 0).to(x.dtype)
    return (counted[:, None] @ x).squeeze(1) / counted.sum(1, keepdim=True)


MEAN = torch.ops.nupes.masked_mean.default


class Match(NamedTuple):
    """Tokens, by what they are multiplied or where they stay, and what divides their sum, of which
    the tokens' dimension may be kept."""

    tokens: fx.Node
    factor: fx.Node
    hidden: bool
    divisor: fx.Node
    kept: bool

    def shows(self, factor: Tensor) -> Tensor:
        """Return which tokens (b, tokens) values of the factor (b, tokens, c or 1) leave."""
        return (factor == 0 if self.hidden else factor != 0).any(-1)


def is_quotient(node: fx.Node) -> bool:
    """Whether a node is a sum over tokens, divided by another node, or times its reciprocal."""
    return bool(matches(node))


def matches(node: fx.Node) -> list[Match]:
    """Return what may be a mean of the tokens that count."""
    if node.kwargs or len(node.all_input_nodes) != 2:
        return []
    total, divisor = quotient(node)
    if divisor is None or not is_call(total, {"sum"}):
        return []
    given = arguments(total)
    source: Any = given["input"]
    if given.get("dim") not in ([1], [-2]) or source.meta["val"].ndim != 3:
        return []
    parts: Any = source.args
    pairs: list[tuple[Any, Any, bool]] = []
    if is_call(source, {"mul"}):
        pairs = [(parts[0], parts[1], False), (parts[1], parts[0], False)]
    elif is_call(source, {"masked_fill"}) and parts[2] == 0:
        pairs = [(parts[0], parts[1], True)]
    elif is_call(source, {"where"}) and parts[2] == 0:
        pairs = [(parts[1], parts[0], False)]
    shape, kept = source.meta["val"].shape, bool(given.get("keepdim"))
    return [
        Match(tokens, factor, hidden, divisor, kept)
        for tokens, factor, hidden in pairs
        if isinstance(tokens, fx.Node) and isinstance(factor, fx.Node)
        if tokens.meta["val"].shape == shape
    ]


def join_means(graph: fx.Graph, inputs: Inputs) -> None:
    """Replace such means by operators; the ``graph`` is changed."""
    for node in list(graph.nodes):
        for found in matches(node):
            flags = inputs.find(found.factor, found.shows)
            same = flags and source_of(found.divisor, inputs.nodes) is flags.source
            if flags is None or not same or not counts_tokens(found, flags, inputs.constants):
                continue
            source = inputs.enter(flags)
            with graph.inserting_before(node):
                counted = add_sum(graph, source)
                mean = graph.call_function(MEAN, (found.tokens, counted))
                mean.meta = {**node.meta, "val": node.meta["val"].reshape(-1, shape_of(found)[2])}
                if found.kept:
                    mean = graph.call_function(torch.ops.aten.unsqueeze.default, (mean, 1))
                    mean.meta = dict(node.meta)
            node.replace_all_uses_with(mean)
            graph.erase_node(node)
            break


def quotient(node: fx.Node) -> tuple[Any, fx.Node | None]:
    """Return what a node divides, and by which other one, ``None`` if it divides nothing."""
    args: Any = node.args
    if is_call(node, {"div"}):
        return args[0], args[1]
    if is_call(node, {"mul"}):
        for total, factor in (args, args[::-1]):
            divisor = inverse_of(factor)
            if divisor is not None:
                return total, divisor
    return None, None


def inverse_of(factor: Any) -> fx.Node | None:
    """Return what a node is one divided by, ``None`` if it is something else."""
    while is_call(factor, {"mul"}) and factor.args[1] == 1:
        factor = factor.args[0]
    found: Any = None
    if is_call(factor, {"reciprocal"}):
        found = factor.args[0]
    elif is_call(factor, {"pow"}) and factor.args[1] == -1:
        found = factor.args[0]
    return found if isinstance(found, fx.Node) else None


def shape_of(found: Match) -> tuple[int, int, int]:
    """Return the shape (b, t, c) of the tokens."""
    batch, tokens, channels = found.tokens.meta["val"].shape
    return batch, tokens, channels


def counts_tokens(found: Match, flags: Flags, constants: dict[fx.Node, Tensor]) -> bool:
    """Whether the factor of a token is one if it counts, else zero, and the divisor their sum."""
    batch, tokens, channels = shape_of(found)
    if flags.shape != (batch, tokens):
        return False
    for hidden in trials(tokens, batch):
        given = flags.values(hidden)
        factor = evaluate(found.factor, flags.source, given, constants)
        divisor = evaluate(found.divisor, flags.source, given, constants)
        wanted = hidden if found.hidden else ~hidden
        wanted = wanted[..., None].expand(batch, tokens, channels)
        count = (~hidden).sum(1, keepdim=True).double()
        count = (count[:, None] if found.kept else count).expand(
            batch, *(1,) * found.kept, channels
        )
        try:
            same = bool((factor.expand_as(wanted).bool() == wanted).all())
            known = found.hidden or bool(((factor == 0) | (factor == 1)).all())
            near = bool(((divisor.expand_as(count) - count).abs() <= NEAR * count).all())
        except RuntimeError:  # of other shapes
            return False
        if not (same and known and near):
            return False
    return True
