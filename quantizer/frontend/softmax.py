"""Attention that is written by hand, as the one operator that it is.

``softmax(q @ k.transpose(-2, -1) * scale, -1) @ v`` becomes ``scaled_dot_product_attention(q, k, v,
scale=scale)``: its scores are those of several heads, which no tensor of a network holds at once.
What is added to the scores, and what takes the place of those that do not count, becomes its mask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.evaluation import ancestors, evaluate, trials
from nupes.quantizer.frontend.key_masks import LEAST
from nupes.quantizer.frontend.registry import (
    arguments,
    base_name,
    copy_graph,
    is_call,
    without_casts,
)

__all__ = ["join_attention"]

ATEN = torch.ops.aten

PRODUCTS = {"matmul", "bmm"}

PLAIN = {"dropout", "view", "reshape", "_unsafe_view"}
"""Operators that give the numbers of their operand as they are, dropout in evaluation."""

UNSEEN = -110.0
"""A score that is no more than this below others adds nothing to a sum in 32 bits."""

Numbers = Mapping[fx.Node, Tensor]
"""What placeholders hold, as far as it is known."""


class Term(NamedTuple):
    """What is added to scores: a tensor times a factor, or, where scores that a tensor hides (or,
    ``kept``, does not keep) have another number's place, that number."""

    node: fx.Node
    factor: float
    kept: bool | None = None

    def insert(self, graph: fx.Graph) -> fx.Node:
        """Insert the nodes that make what is added."""
        if self.kept is not None:
            ends = (0.0, self.factor) if self.kept else (self.factor, 0.0)
            made = graph.call_function(ATEN.where.Scalar, (self.node, *ends))
            made.meta = {**self.node.meta, "val": self.node.meta["val"].float()}
        elif self.factor != 1 or not self.node.meta["val"].is_floating_point():
            made = graph.call_function(ATEN.mul.Tensor, (self.node, float(self.factor)))
            made.meta = {**self.node.meta, "val": self.node.meta["val"] * float(self.factor)}
        else:
            made = self.node
        return made


class Scores(NamedTuple):
    """A product of queries and keys, the factor of its scores, what is added to them, and constant
    factors of each head or query."""

    product: fx.Node
    factor: float
    terms: tuple[Term, ...]
    gains: tuple[fx.Node, ...] = ()


class Match(NamedTuple):
    """The operands of attention, keys transposed, the factor of its scores, what is added, factors
    of each head, and whether values and the result are ``turned``, tokens in the last dimension."""

    query: fx.Node
    key: fx.Node
    value: fx.Node
    scale: float
    terms: tuple[Term, ...]
    gains: tuple[fx.Node, ...]
    turned: bool


def join_attention(graph: fx.Graph, held: Sequence[Tensor | None]) -> fx.Graph:
    """Return a graph with attention as one operator: itself, or a changed copy; ``held`` is what
    each placeholder holds, if it is known."""
    if find(graph.nodes, numbers_of(graph, held)) is None:
        return graph
    copy = copy_graph(graph)
    numbers = numbers_of(copy, held)
    while (found := find(copy.nodes, numbers)) is not None:
        node, (query, key, value, scale, terms, gains, turned) = found
        with copy.inserting_before(node):
            mask = total(copy, terms)
            for gain in gains:
                made = copy.call_function(ATEN.mul.Tensor, (query, gain))
                made.meta = dict(query.meta)
                query = made
            value = transposed(copy, value) if turned else value
            parts = (query, transposed(copy, key), value, mask)
            joined = copy.call_function(
                ATEN.scaled_dot_product_attention.default, parts, {"scale": scale}
            )
            joined.meta = dict(node.meta)
            if turned:
                joined.meta["val"] = node.meta["val"].transpose(-2, -1)
                joined = transposed(copy, joined)
        node.replace_all_uses_with(joined)
        copy.erase_node(node)
    return copy


def transposed(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Insert a matrix transposed."""
    made = graph.call_function(ATEN.transpose.int, (node, -2, -1))
    made.meta = {**node.meta, "val": node.meta["val"].transpose(-2, -1)}
    return made


def before_transposition(node: Any) -> Any:
    """Return a matrix before it was transposed, ``None`` for any other node."""
    if not is_call(node, {"transpose", "mT", "swapaxes", "swapdims", "permute"}):
        return None
    before: Any = node.args[0]
    last = before.meta["val"].ndim - 1
    if base_name(node) == "mT":
        return before
    if base_name(node) == "permute":
        return before if list(node.args[1]) == [*range(last - 1), last, last - 1] else None  # type: ignore[arg-type]
    dims = {dim % (last + 1) for dim in node.args[1:]}  # type: ignore[operator]
    return before if dims == {last - 1, last} else None


def numbers_of(graph: fx.Graph, held: Sequence[Tensor | None]) -> Numbers:
    """Return what the placeholders of a graph hold."""
    placeholders = (node for node in graph.nodes if node.op == "placeholder")
    pairs = zip(placeholders, held, strict=True)
    return {node: value for node, value in pairs if value is not None}


def find(nodes: Iterable[fx.Node], numbers: Numbers) -> tuple[fx.Node, Match] | None:
    """Return the first product that is attention's last one, with what it is made of."""
    for node in nodes:
        found = match(node, numbers)
        if found is not None:
            return node, found
    return None


def match(node: fx.Node, numbers: Numbers) -> Match | None:
    """Return what attention's last product is made of, ``None`` for any other node."""
    if not is_product(node):
        return None
    first, second = operands(node)
    found = weighted(node, first, second, False, numbers)
    weights = before_transposition(without_casts(second, PLAIN))
    if found is None and weights is not None:
        found = weighted(node, weights, first, True, numbers)
    return found


def weighted(
    node: fx.Node, weights: fx.Node, value: fx.Node, turned: bool, numbers: Numbers
) -> Match | None:
    """Return what attention's last product is made of if ``weights`` are softmax of scores."""
    whole = weights.meta["val"].shape
    weights = without_casts(weights, PLAIN)
    if not is_call(weights, {"softmax", "_softmax"}):
        return None
    last = weights.meta["val"].ndim - 1
    if arguments(weights)["dim"] not in (-1, last):
        return None
    scores = scores_of(operands(weights)[0], numbers)
    ends = {weights.meta["val"].shape, whole}
    if scores is None or ends != {scores.product.meta["val"].shape}:
        return None
    if not all(fits(term.node, weights) for term in scores.terms):
        return None
    (query, first), (key, second) = map(without_factors, operands(scores.product))
    if not all(is_gain(gain, query) for gain in scores.gains):
        return None
    scale = scores.factor * first * second
    return Match(query, key, value, scale, scores.terms, scores.gains, turned)


def is_gain(gain: fx.Node, query: fx.Node) -> bool:
    """Whether factors of scores are factors of queries: one for all keys, and no more dimensions
    than queries have."""
    shape = gain.meta["val"].shape
    return len(shape) <= query.meta["val"].ndim and (not shape or shape[-1] == 1)


def fits(added: fx.Node, scores: fx.Node) -> bool:
    """Whether what is added to scores has their shape, or one that is broadcast to it."""
    shape, wanted = added.meta["val"].shape, scores.meta["val"].shape
    return len(shape) <= len(wanted) and torch.broadcast_shapes(shape, wanted) == wanted


def total(graph: fx.Graph, terms: tuple[Term, ...]) -> fx.Node | None:
    """Return the sum of what is added to scores, ``None`` if that is nothing."""
    found = None
    for term in terms:
        value = term.insert(graph)
        if found is not None:
            made = graph.call_function(ATEN.add.Tensor, (found, value))
            made.meta = {**value.meta, "val": found.meta["val"] + value.meta["val"]}
            value = made
        found = value
    if found is not None and found.meta["val"].ndim < 2:  # of keys alone: for every query
        value = found.meta["val"].reshape(1, -1)
        meta, found = found.meta, graph.call_function(ATEN.reshape.default, (found, [1, -1]))
        found.meta = {**meta, "val": value}
    return found


def scores_of(value: Any, numbers: Numbers, factor: float = 1.0) -> Scores | None:
    """Return of which product what softmax reads are the scores, multiplied by ``factor`` since;
    ``None`` if they are of none."""
    if is_product(value):
        return Scores(value, factor, ())
    if not isinstance(value, fx.Node) or value.op != "call_function":
        return None
    name, given = base_name(value), value.args
    plain = without_casts(value, PLAIN)
    if plain is not value:
        return scores_of(plain, numbers, factor)
    if name in ("mul", "div") and not value.kwargs:
        for inner, other in (given, given[::-1])[: 1 + (name == "mul")]:
            number = number_of(other, numbers)
            if number is not None and not (name == "div" and number == 0):
                more = factor / number if name == "div" else factor * number
                return scores_of(inner, numbers, more)
    if name == "mul" and len(given) == 2:
        for inner, gain in (given, given[::-1]):
            if constant_of(gain, numbers) is not None:
                found = scores_of(inner, numbers, factor)
                # What was added before would have to be multiplied as well.
                return None if not found or found.terms else with_gain(found, gain)
        return None
    if name in ("add", "sub") and not value.kwargs:
        sign = 1 if name == "add" else -1
        for scores, other in (given[:2], given[1::-1])[: 1 + (name == "add")]:
            inner = without_zeros(scores, other, numbers, sign * factor)
            found = scores_of(inner, numbers, factor)
            if found and isinstance(other, fx.Node) and other.meta["val"].dtype != torch.bool:
                return found._replace(terms=(*found.terms, Term(other, sign * factor)))
        return None
    if name in ("max", "maximum") and len(given) == 2:
        # Scores that count are above what no exponential sees.
        for scores, other in (given, given[::-1]):
            bound = number_of(other, numbers)
            if bound is not None and bound * factor <= LEAST:
                return scores_of(scores, numbers, factor)
        return None
    if name == "masked_fill":
        return filled(given[1], given[0], given[2], False, numbers, factor)
    if name == "where" and len(given) == 3:
        mask, first, second = given
        return filled(mask, first, second, True, numbers, factor) or filled(
            mask, second, first, False, numbers, factor
        )
    return None


def with_gain(scores: Scores, gain: Any) -> Scores:
    """Return scores with factors of queries."""
    return scores._replace(gains=(*scores.gains, gain))


def without_zeros(scores: Any, other: Any, numbers: Numbers, factor: float) -> Any:
    """Return scores before ones and zeros that they are multiplied by, a constant or what is made
    of an input of such, if what is added hides all those that are zeros."""
    if not is_call(scores, {"mul"}) or len(scores.all_input_nodes) != 2:
        return scores
    for inner, gate in (scores.args, scores.args[::-1]):
        pairs = list(both_of(gate, other, numbers))
        if pairs and all(hides_zeros(ones, added * factor) for ones, added in pairs):
            return inner
    return scores


def hides_zeros(ones: Tensor, added: Tensor) -> bool:
    """Whether numbers are ones and zeros, and what is added hides the zeros."""
    ones, hidden = torch.broadcast_tensors(ones, added <= UNSEEN)
    return bool(((ones == 1) | (ones == 0) & hidden).all())


def both_of(first: Any, second: Any, numbers: Numbers) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the values of two nodes: constants, or those of an input of ones and zeros (b, keys),
    for many such inputs."""
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return
    before = ancestors(first) | ancestors(second)
    sources = [node for node in before if node.op == "placeholder" and node not in numbers]
    if not sources:
        end, none = first.graph.output_node(), torch.zeros(())
        yield evaluate(first, end, none, dict(numbers)), evaluate(second, end, none, dict(numbers))
    elif len(sources) == 1 and not any(is_call(node, {"embedding"}) for node in before):
        (source,), known = sources, dict(numbers)
        value = source.meta["val"]
        if value.ndim == 2 and isinstance(value.shape[0], int):
            for hidden in trials(value.shape[1], value.shape[0]):
                given = (~hidden).to(value.dtype)
                yield evaluate(first, source, given, known), evaluate(second, source, given, known)


def constant_of(value: Any, numbers: Numbers) -> Tensor | None:
    """Return a constant tensor, ``None`` if it is not known."""
    if not isinstance(value, fx.Node):
        return None
    if any(node.op == "placeholder" and node not in numbers for node in ancestors(value)):
        return None
    return evaluate(value, value.graph.output_node(), torch.zeros(()), dict(numbers))


def filled(
    mask: Any, scores: Any, other: Any, kept: bool, numbers: Numbers, factor: float
) -> Scores | None:
    """Return scores of which those that a mask does not keep, or that it hides, are another number,
    if that is as low as what is hidden: then it may be added as well."""
    number = number_of(other, numbers)
    if number is None or number * factor > UNSEEN or not isinstance(mask, fx.Node):
        return None
    found = scores_of(scores, numbers, factor) if factor > 0 else None
    low = max(min(number * factor, LEAST), -torch.finfo(torch.float32).max)
    return found and found._replace(terms=(*found.terms, Term(mask, low, kept)))


def number_of(value: Any, numbers: Numbers) -> float | None:
    """Return the number that a value is, ``None`` if it is not known."""
    if isinstance(value, int | float):
        return float(value)
    node = without_casts(value, PLAIN)
    if is_call(node, {"full", "scalar_tensor"}):
        number = node.args[-1]
        return float(number) if isinstance(number, int | float) else None
    held = numbers.get(node)
    return float(held) if held is not None and held.numel() == 1 else None


def operands(node: fx.Node) -> Any:
    """Return what a call is given, in order: nodes and numbers."""
    return node.args


def is_product(value: Any) -> TypeGuard[fx.Node]:
    """Whether a value is a product of two tensors, of several dimensions."""
    if not is_call(value, PRODUCTS):
        return False
    given = operands(value)
    return all(isinstance(item, fx.Node) and item.meta["val"].ndim > 2 for item in given)


def without_factors(value: fx.Node) -> tuple[fx.Node, float]:
    """Return what a value is a multiple of, and the factor."""
    factor = 1.0
    while is_call(value, {"mul", "div"}) and isinstance(operands(value)[1], int | float):
        if value.kwargs:
            break
        number = float(operands(value)[1])
        if base_name(value) == "div" and not number:
            break
        factor = factor / number if base_name(value) == "div" else factor * number
        value = operands(value)[0]
    return value, factor
