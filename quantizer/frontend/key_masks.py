"""Masks of keys that are computed from an input (b, keys) of ones and zeros, as one sum.

Libraries make the mask of attention in many steps: truth values, indices, broadcasts, logical
operators. What it is in the end is found by trying inputs of ones and zeros. If every zero hides
its key and nothing else, the mask is ``(input - 1) * 1e9``, beside numbers that are added to scores
whatever the input, such as a bias by distance, or what hides keys that follow a query.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional as F

from nupes.quantizer.frontend.registry import arguments, is_call

__all__ = [
    "LEAST",
    "add_sum",
    "ancestors",
    "evaluate",
    "join_masks",
    "mask_of",
    "source_of",
    "trials",
]

LEAST = -1e3
"""A number that is added to a score and no more than this makes the exponential 0."""

FAR = 1e9
"""How far a key that does not count lies below one that does."""

TRIALS = 64
"""Random inputs that are tried, beside those of one zero and of one one."""

ATEN = torch.ops.aten


def mask_of(node: fx.Node) -> fx.Node | None:
    """Return the mask of attention, ``None`` where there is none."""
    if not is_call(node, {"scaled_dot_product_attention"}):
        return None
    mask = arguments(node)["attn_mask"]
    return mask if isinstance(mask, fx.Node) else None


def join_masks(
    graph: fx.Graph, inputs: Iterable[fx.Node], constants: dict[fx.Node, Tensor]
) -> frozenset[fx.Node]:
    """Let attention read such masks of integers as sums, and return their inputs; the ``graph`` is
    changed."""
    inputs = list(inputs)
    sums: dict[fx.Node, fx.Node] = {}
    held: dict[fx.Node, fx.Node | None] = {}
    for node in list(graph.nodes):
        mask = mask_of(node)
        source = None if mask is None else source_of(mask, inputs)
        if mask is None or source is None:
            continue
        if mask not in held:
            bias = bias_of(mask, source, constants)
            if bias is None:
                continue
            held[mask] = hold(graph, bias, constants) if bool(bias.any()) else None
        if source not in sums:
            with graph.inserting_before(node):
                sums[source] = add_sum(graph, source)
        attend(node, mask, sums[source], held[mask])
    return frozenset(sums)


@torch.library.custom_op("nupes::biased_attention", mutates_args=())
def biased_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, bias: Tensor, scale: float
) -> Tensor:
    """Return attention of queries, keys and values (b, heads, t, d), to whose scores a mask (b, 1,
    1, keys) and a bias (1, heads or 1, t or 1, keys) are added."""
    both = attn_mask.to(query.dtype) + bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, both, scale=scale, enable_gqa=True)


BIASED = torch.ops.nupes.biased_attention.default


def attend(node: fx.Node, mask: fx.Node, total: fx.Node, bias: fx.Node | None) -> None:
    """Let attention read a sum in place of its mask, and a bias if there is one."""
    if bias is None:
        node.replace_input_with(mask, total)
        return
    given: Any = arguments(node)
    query, key, value = given["query"], given["key"], given["value"]
    scale = query.meta["val"].shape[-1] ** -0.5 if given["scale"] is None else given["scale"]
    with node.graph.inserting_before(node):
        made = node.graph.call_function(BIASED, (query, key, value, total, bias, float(scale)))
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    node.graph.erase_node(node)


def hold(graph: fx.Graph, values: Tensor, constants: dict[fx.Node, Tensor]) -> fx.Node:
    """Return a new placeholder that holds a constant."""
    with graph.inserting_before(next(iter(graph.nodes))):
        node = graph.placeholder("bias")
    node.meta["val"] = constants[node] = values
    return node


def source_of(mask: fx.Node, inputs: list[fx.Node]) -> fx.Node | None:
    """Return the one input on which a mask depends, ``None`` if there is none or are several."""
    found = ancestors(mask)
    given = [node for node in inputs if node in found]
    return given[0] if len(given) == 1 else None


def ancestors(node: fx.Node) -> set[fx.Node]:
    """Return a node and all on which it depends."""
    found, waiting = {node}, [node]
    while waiting:
        new = [source for source in waiting.pop().all_input_nodes if source not in found]
        found.update(new)
        waiting += new
    return found


def bias_of(mask: fx.Node, source: fx.Node, constants: dict[fx.Node, Tensor]) -> Tensor | None:
    """Return what a mask adds to scores where no key is hidden, float (1, heads or 1, queries or 1,
    keys), ``-FAR`` for a pair that never counts, if a zero for a key in the input hides that key
    from all queries and changes nothing else; ``None`` if not."""
    value = source.meta["val"]
    if value.ndim != 2 or value.is_floating_point():
        return None
    batch, keys = value.shape
    if not isinstance(batch, int) or mask.meta["val"].shape[-1] != keys:
        return None
    bias = None
    for hidden in trials(keys, batch):
        found = evaluate(mask, source, (~hidden).to(value.dtype), constants)
        if found.dtype == torch.bool:
            found = torch.where(found, 0.0, 2 * LEAST)
        if found.ndim not in (3, 4):
            return None
        hides = (hidden[:, None, None] if found.ndim == 4 else hidden[:, None]).expand_as(found)
        if bias is None:
            bias = found[:1]  # that of the first trial, which hides no key
        hides = hides | (bias <= LEAST)
        if not bool(((found == bias) | hides).all() & ((found <= LEAST) | ~hides).all()):
            return None
    assert bias is not None
    return torch.where(bias <= LEAST, -FAR, bias)


def trials(keys: int, batch: int) -> Iterator[Tensor]:
    """Yield which keys a batch of inputs hides, bool (batch, keys): none, one, all but one, any."""
    generator = torch.Generator().manual_seed(0)
    one = torch.eye(keys, dtype=torch.bool)
    shares = torch.rand(TRIALS, 1, generator=generator)
    some = torch.rand(TRIALS, keys, generator=generator) < shares
    every = torch.cat([torch.zeros(1, keys, dtype=torch.bool), one, ~one, some])
    every = every[~every.all(1)]  # a query without a key has no softmax
    for first in range(0, len(every), batch):
        yield every[torch.arange(first, first + batch).clamp(max=len(every) - 1)]


def evaluate(
    node: fx.Node, source: fx.Node, given: Tensor, constants: dict[fx.Node, Tensor]
) -> Tensor:
    """Return the value of a call for an input, which stands for ``source``."""
    values: dict[fx.Node, Any] = {source: given}
    waiting = [node]
    while waiting:
        call = waiting[-1]
        missing = [value for value in call.all_input_nodes if value not in values]
        if call in values or missing:
            waiting = waiting[:-1] if call in values else waiting + missing
        elif call.op == "call_function":
            args, kwargs = map_arg((call.args, call.kwargs), lambda n: values[n])
            assert callable(call.target)
            values[call] = call.target(*args, **kwargs)
        else:
            values[call] = constants[call]
    return values[node]


def add_sum(graph: fx.Graph, source: fx.Node) -> fx.Node:
    """Add ``(source - 1) * FAR`` as (b, 1, 1, keys)."""
    value = source.meta["val"]
    made = source
    for target, number in ((ATEN.sub.Tensor, 1), (ATEN.mul.Tensor, FAR)):
        made = graph.call_function(target, (made, number))
        value = target(value, number)
        made.meta = {**source.meta, "val": value}
    shape = [value.shape[0], 1, 1, value.shape[1]]
    made = graph.call_function(ATEN.reshape.default, (made, shape))
    made.meta = {**source.meta, "val": value.reshape(shape)}
    return made
