"""Masks of keys that are computed from an input (b, keys) of ones and zeros, as one sum.

Libraries make the mask of attention in many steps: truth values, indices, broadcasts, logical
operators. What it is in the end is found by trying inputs of ones and zeros. If every zero hides
its key and nothing else, the mask is ``(input - 1) * 1e9``.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.registry import arguments, is_call

__all__ = ["LEAST", "add_sum", "evaluate", "join_masks", "mask_of", "source_of", "trials"]

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
    for node in list(graph.nodes):
        mask = mask_of(node)
        source = None if mask is None else source_of(mask, inputs)
        if mask is None or source is None or not hides_keys(mask, source, constants):
            continue
        if source not in sums:
            with graph.inserting_before(node):
                sums[source] = add_sum(graph, source)
        node.replace_input_with(mask, sums[source])
    return frozenset(sums)


def source_of(mask: fx.Node, inputs: list[fx.Node]) -> fx.Node | None:
    """Return the one input on which a mask depends, ``None`` if there is none or are several."""
    found, waiting = {mask}, [mask]
    while waiting:
        new = [node for node in waiting.pop().all_input_nodes if node not in found]
        found.update(new)
        waiting += new
    given = [node for node in inputs if node in found]
    return given[0] if len(given) == 1 else None


def hides_keys(mask: fx.Node, source: fx.Node, constants: dict[fx.Node, Tensor]) -> bool:
    """Whether a zero for a key in the input hides that key from all queries, and nothing else
    does."""
    value = source.meta["val"]
    if value.ndim != 2 or value.is_floating_point():
        return False
    batch, keys = value.shape
    if not isinstance(batch, int) or mask.meta["val"].shape[-1] != keys:
        return False
    for hidden in trials(keys, batch):
        found = evaluate(mask, source, (~hidden).to(value.dtype), constants)
        wanted = ~hidden[:, None, None] if found.ndim == 4 else ~hidden[:, None]
        if found.dtype != torch.bool:
            known = (found == 0) | (found <= LEAST)
            if not bool(known.all()):
                return False
            found = found == 0
        if not bool((found == wanted).all()):
            return False
    return True


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
