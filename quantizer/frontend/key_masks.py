"""Masks of keys that are computed from an input (b, keys) of ones and zeros, as one sum.

Libraries make the mask of attention in many steps: truth values, indices, broadcasts, logical
operators. What it is in the end is found by trying inputs of ones and zeros. If every zero hides
its key and nothing else, the mask is ``(input - 1) * 1e9``, beside numbers that are added to scores
whatever the input, such as a bias by distance, or what hides keys that follow a query.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from nupes.quantizer.frontend.evaluation import ancestors, evaluate, trials
from nupes.quantizer.frontend.flags import FAR, Flags, Inputs, add_sum, hold
from nupes.quantizer.frontend.registry import arguments, is_call

__all__ = ["LEAST", "join_masks", "mask_of"]

LEAST = -1e3
"""A number that is added to a score and no more than this makes the exponential 0."""


def mask_of(node: fx.Node) -> fx.Node | None:
    """Return the mask of attention, ``None`` where there is none."""
    if not is_call(node, {"scaled_dot_product_attention"}):
        return None
    mask = arguments(node)["attn_mask"]
    return mask if isinstance(mask, fx.Node) else None


def join_masks(graph: fx.Graph, inputs: Inputs) -> None:
    """Let attention read such masks as sums; the ``graph`` is changed."""
    sums: dict[fx.Node, fx.Node] = {}
    held: dict[fx.Node, tuple[fx.Node, fx.Node | None] | None] = {}
    for node in list(graph.nodes):
        mask = mask_of(node)
        if mask is None:
            continue
        if mask not in held:
            held[mask] = None
            flags = inputs.find(mask, shown_keys)
            bias = None if flags is None else bias_of(mask, flags, inputs.constants)
            if flags is not None and bias is None and is_of_integers(mask, flags):
                with graph.inserting_before(node):
                    other = graph.call_function(OTHER, (inputs.enter(flags),))
                other.meta = dict(mask.meta)
                mask.replace_all_uses_with(other)
            if flags is not None and bias is not None:
                some = hold(graph, bias, inputs.constants) if bool(bias.any()) else None
                held[mask] = inputs.enter(flags), some
        found = held[mask]
        if found is None:
            continue
        source, some = found
        if source not in sums:
            with graph.inserting_before(node):
                sums[source] = add_sum(graph, source)
        attend(node, mask, sums[source], some)


@torch.library.custom_op("nupes::mask_of_keys", mutates_args=())
def mask_of_keys(source: Tensor) -> Tensor:
    """Stand for a mask that is made of an input (b, keys) alone and is not one of keys; its handler
    refuses it."""
    raise NotImplementedError


def is_of_integers(mask: fx.Node, flags: Flags) -> bool:
    """Whether a mask is made of integers alone; real numbers may be what is added to scores."""
    looked_up = any(is_call(node, {"embedding"}) for node in ancestors(mask))
    return not flags.source.meta["val"].is_floating_point() and not looked_up


def shown_keys(mask: Tensor) -> Tensor:
    """Return which keys (b, keys) a mask (b, ..., keys) leaves some query."""
    counts = mask if mask.dtype == torch.bool else mask > LEAST
    return counts.flatten(1, -2).any(1) if mask.ndim > 2 else counts


@torch.library.custom_op("nupes::biased_attention", mutates_args=())
def biased_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, bias: Tensor, scale: float
) -> Tensor:
    """Return attention of queries, keys and values (b, heads, t, d), to whose scores a mask (b, 1,
    1, keys) and a bias (1, heads or 1, t or 1, keys) are added."""
    both = attn_mask.to(query.dtype) + bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, both, scale=scale, enable_gqa=True)


OTHER = torch.ops.nupes.mask_of_keys.default
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


def bias_of(mask: fx.Node, flags: Flags, constants: dict[fx.Node, Tensor]) -> Tensor | None:
    """Return what a mask adds to scores where no key is hidden, float (1, heads or 1, queries or 1,
    keys), ``-FAR`` for a pair that never counts, if what an input hides is hidden from all queries
    and changes nothing else; ``None`` if not."""
    batch, keys = flags.shape
    if mask.meta["val"].shape[-1] != keys:
        return None
    bias = None
    for hidden in trials(keys, batch):
        found = evaluate(mask, flags.source, flags.values(hidden), constants)
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
