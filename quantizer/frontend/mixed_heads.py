"""Heads of attention that are mixed by constants, such as talking heads, as attention of plain
heads.

Scores mixed before softmax, ``sum_h w[g, h] * (q[h] @ k[h])``, are one product: of the queries of
all heads side by side, times their weights, and the keys of all heads. Weights mixed behind it,
``sum_h w[g, h] * (p[h] @ v[g])``, are the means of the values of all heads by each, mixed by a
convolution; constants that are added to weights, ``c[g]``, add ``c[g] @ v[g]``.

How they are mixed is found by trying: a chain of affine operators that gives for every head, and
every pair of query and key, the same sum of the heads of what it reads.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from nupes.quantizer.frontend.evaluation import ancestors, evaluate
from nupes.quantizer.frontend.insertion import add_call, add_constant
from nupes.quantizer.frontend.key_masks import LEAST
from nupes.quantizer.frontend.registry import (
    CASTS,
    arguments,
    base_name,
    copy_graph,
    is_call,
    is_view,
)
from nupes.quantizer.frontend.softmax import PLAIN, Numbers, is_product, numbers_of

__all__ = ["join_mixed_heads"]

ATEN = torch.ops.aten

MIXERS = {"linear", "conv1d", "conv2d", "matmul", "mm", "bmm"}
"""Operators that may mix heads; affine in one operand where the others are constant."""

AFFINE = MIXERS | {"mul", "add", "sub", "rsub", "neg"}
"""Operators that are affine in one operand where the others are constant."""

SOFTMAX = {"softmax", "_softmax"}

ROUNDINGS = 64
"""Roundings of the largest number that a trial may be off."""


class Mix(NamedTuple):
    """Sums of the heads of a ``source`` (b, heads, t, n): ``weight`` (heads, heads) and ``added``
    (heads, t, n), float64."""

    source: fx.Node
    weight: Tensor
    added: Tensor

    @property
    def is_diagonal(self) -> bool:
        """Whether each head stays one of its own."""
        rows, columns = self.weight.shape
        return rows == columns and bool((self.weight == self.weight.diag().diag()).all())


def join_mixed_heads(graph: fx.Graph, held: Sequence[Tensor | None]) -> fx.Graph:
    """Return a graph in which no heads are mixed between scores and values: itself, or a changed
    copy; ``held`` is what each placeholder holds, if it is known."""
    if not any(is_call(node, SOFTMAX) for node in graph.nodes):
        return graph
    copy = copy_graph(graph)
    numbers, changed = numbers_of(copy, held), False
    for node in list(copy.nodes):
        if is_call(node, SOFTMAX):
            changed |= unmix_scores(node, numbers)
        elif is_product(node):
            changed |= unmix_weights(node, numbers)
    if not changed:
        return graph
    copy.eliminate_dead_code(lambda node: node.op != "call_function")
    return copy


def mixture(value: fx.Node, numbers: Numbers) -> Mix | None:
    """Return how heads are mixed to what a value (b, heads, t, n) is, of the earliest tensor that
    has such heads; ``None`` where it is no mixture."""
    shape = value.meta["val"].shape
    found, node = None, value
    if len(shape) != 4:
        return None
    while (before := before_step(node, numbers)) is not None:
        node, size = before, before.meta["val"].shape
        if len(size) == 4 and (size[0], *size[2:]) == (shape[0], *shape[2:]):
            found = node
    return None if found is None else tried(value, found, numbers)


def before_step(node: fx.Node, numbers: Numbers) -> fx.Node | None:
    """Return the one operand of an affine operator that is not constant; ``None`` for others."""
    if node.op != "call_function" or node.kwargs.get("alpha", 1) != 1:
        return None
    name = base_name(node)
    first: Any = node.args[0] if node.args else None
    if name in CASTS | PLAIN or is_view(node):
        whole = isinstance(first, fx.Node) and not isinstance(node.meta["val"], list | tuple)
        return first if whole and not arguments(node).get("train") else None
    computed = [value for value in node.all_input_nodes if not is_constant(value, numbers)]
    if len(computed) != 1 or name not in AFFINE | {"div"}:
        return None
    # What is divided is affine, what it is divided by is not.
    return computed[0] if name != "div" or computed[0] is first else None


def is_constant(node: fx.Node, numbers: Numbers) -> bool:
    """Whether a node depends on no input."""
    return not any(n.op == "placeholder" and n not in numbers for n in ancestors(node))


@torch.no_grad()
def tried(value: fx.Node, source: fx.Node, numbers: Numbers) -> Mix | None:
    """Return how a value is a mixture of a source's heads, from what trials give."""
    known, made = source.meta["val"], value.meta["val"]
    generator = torch.Generator().manual_seed(0)
    trial = torch.randint(1, 9, known.shape[2:], generator=generator).to(known.dtype)
    zeros = torch.zeros(known.shape, dtype=known.dtype)
    added = evaluate(value, source, zeros, dict(numbers)).double()
    if not bool((added == added[:1]).all() & (added.abs() < -LEAST).all()):
        return None
    weight = torch.zeros(made.shape[1], known.shape[1], dtype=torch.float64)
    allowed = ROUNDINGS * torch.finfo(known.dtype).eps
    for head in range(known.shape[1]):
        given = zeros.clone()
        given[:, head] = trial
        found = evaluate(value, source, given, dict(numbers)).double() - added
        weight[:, head] = (found[0] / trial).mean((1, 2))
        wanted = weight[:, head, None, None] * trial.double()
        scale = float(wanted.abs().max() + added.abs().max())
        if not bool(((found - wanted).abs() <= allowed * scale).all()):
            return None
    return Mix(source, weight, added[0])


def unmix_scores(node: fx.Node, numbers: Numbers) -> bool:
    """Let softmax read scores of plain heads in place of mixed ones; return whether it does."""
    for whole in before_mixers(node, numbers):
        found = mixture(whole, numbers)
        if found is not None and is_product(found.source):
            break
    else:
        return False
    query, key = found.source.args
    assert isinstance(query, fx.Node)
    assert isinstance(key, fx.Node)
    heads = found.weight.shape[1]
    if any(part.meta["val"].shape[1] != heads for part in (query, key)):
        return False
    with node.graph.inserting_before(whole):
        made = mixed_scores(whole, query, key, found.weight, found.added)
    whole.replace_all_uses_with(made)
    return True


def before_mixers(node: fx.Node, numbers: Numbers) -> list[fx.Node]:
    """Return what softmax reads and what that is made of by masks and affine operators, up to the
    first one that may mix heads; nothing if none may."""
    value: Any = node.args[0]
    found = []
    while isinstance(value, fx.Node):
        hidden = is_call(value, {"masked_fill"})
        before: Any = value.args[0] if hidden else before_step(value, numbers)
        found.append(value)
        if is_call(value, MIXERS):
            return found if before is not None else []
        value = before
    return []


def mixed_scores(
    like: fx.Node, query: fx.Node, key: fx.Node, weight: Tensor, added: Tensor
) -> fx.Node:
    """Insert the scores of mixed heads of queries (b, h, t, d) and keys (b, h, d, n)."""
    batch, heads, rows, size = query.meta["val"].shape
    keys, count, dtype = key.meta["val"].shape[-1], len(weight), query.meta["val"].dtype
    every = add_call(like, ATEN.permute.default, query, [0, 2, 1, 3])
    every = add_call(like, ATEN.reshape.default, every, [batch, 1, rows, heads * size])
    every = add_call(like, ATEN.expand.default, every, [batch, count, rows, heads * size])
    factors = weight.repeat_interleave(size, 1).reshape(1, count, 1, heads * size).to(dtype)
    every = add_call(like, ATEN.mul.Tensor, every, add_constant(like, factors, "mixing"))
    other = add_call(like, ATEN.reshape.default, key, [batch, 1, heads * size, keys])
    made = add_call(like, ATEN.matmul.default, every, other)
    if bool((added == added[:, :1, :1]).all()):  # softmax takes it away again
        return made
    return add_call(like, ATEN.add.Tensor, made, add_constant(like, added[None].to(dtype), "added"))


def unmix_weights(node: fx.Node, numbers: Numbers) -> bool:
    """Let a product of mixed weights and values be one of plain heads; return whether it is."""
    weights, value = node.args
    assert isinstance(weights, fx.Node)
    assert isinstance(value, fx.Node)
    found = weights_of(weights, numbers)
    if found is None or not is_call(found.source, SOFTMAX):
        return False
    last = found.source.meta["val"].ndim - 1
    lead = value.meta["val"].shape[:2]
    if arguments(found.source)["dim"] not in (-1, last) or len(value.meta["val"].shape) != 4:
        return False
    if lead[1] != len(found.weight) or is_constant(value, numbers):
        return False
    with node.graph.inserting_before(node):
        parts = means_of_all if not found.is_diagonal else means_of_each
        made = parts(node, found.source, value, found.weight)
        made = with_constant(node, made, value, found.added)
    node.replace_all_uses_with(made)
    return True


def weights_of(weights: fx.Node, numbers: Numbers) -> Mix | None:
    """Return how weights are mixed, also such as are divided by their sums over all keys, if these
    are constant; ``None`` where they are plain."""
    whole = undivided(weights)
    found = mixture(whole, numbers)
    if found is None or whole is weights:
        return found
    sums = found.weight.sum(1)[:, None] + found.added.sum(2)
    if not bool(((sums - sums[:, :1]).abs() <= 1e-5 * sums.abs()).all() & (sums != 0).all()):
        return None
    return Mix(found.source, found.weight / sums[:, :1], found.added / sums[:, :1, None])


def undivided(weights: fx.Node) -> fx.Node:
    """Return weights before they are divided by their sums over all keys, if they are."""
    quotient: Any = weights
    while is_call(quotient, CASTS | PLAIN):
        quotient = quotient.args[0]
    if not is_call(quotient, {"div"}) or len(quotient.args) != 2:
        return weights
    whole, total = quotient.args
    while is_call(total, {"unsqueeze", "expand", "expand_as", "reshape", "view"}):
        total = total.args[0]
    if not is_call(total, {"sum"}) or total.args[0] is not whole or not isinstance(whole, fx.Node):
        return weights
    dims: Any = arguments(total).get("dim")
    alone = isinstance(dims, list | tuple) and len(dims) == 1
    return whole if alone and dims[0] in (-1, whole.meta["val"].ndim - 1) else weights


def means_of_each(like: fx.Node, weights: fx.Node, value: fx.Node, weight: Tensor) -> fx.Node:
    """Insert the means of each head's values, times a number of each head."""
    factors = weight.diag().reshape(1, -1, 1, 1).to(value.meta["val"].dtype)
    scaled = add_call(like, ATEN.mul.Tensor, value, add_constant(like, factors, "mixing"))
    return add_call(like, ATEN.matmul.default, weights, scaled)


def means_of_all(like: fx.Node, weights: fx.Node, value: fx.Node, weight: Tensor) -> fx.Node:
    """Insert the means of all heads' values (b, g, n, d) by the weights (b, h, t, n) of each, mixed
    by a convolution of as many groups as there are channels."""
    batch, count, keys, size = value.meta["val"].shape
    heads, rows = weights.meta["val"].shape[1:3]
    lanes, dtype = count * size, value.meta["val"].dtype
    every = add_call(like, ATEN.permute.default, value, [0, 2, 1, 3])
    every = add_call(like, ATEN.reshape.default, every, [batch, 1, keys, lanes])
    every = add_call(like, ATEN.expand.default, every, [batch, heads, keys, lanes])
    made = add_call(like, ATEN.matmul.default, weights, every)
    made = add_call(like, ATEN.permute.default, made, [0, 3, 1, 2])
    made = add_call(like, ATEN.reshape.default, made, [batch, lanes * heads, rows])
    kernel = weight.repeat_interleave(size, 0)[:, :, None].to(dtype)
    held = add_constant(like, kernel, "mixing")
    made = add_call(like, ATEN.conv1d.default, made, held, None, [1], [0], [1], lanes)
    made = add_call(like, ATEN.reshape.default, made, [batch, count, size, rows])
    return add_call(like, ATEN.transpose.int, made, -2, -1)


def with_constant(like: fx.Node, made: fx.Node, value: fx.Node, added: Tensor) -> fx.Node:
    """Insert the sum of means and what constants (g, t, n) that are added to weights make of
    values."""
    if not added.any():
        return made
    if bool((added == added[:, :1]).all()):
        added = added[:, :1]
    held = add_constant(like, added[None].to(value.meta["val"].dtype), "added")
    return add_call(like, ATEN.add.Tensor, made, add_call(like, ATEN.matmul.default, held, value))
