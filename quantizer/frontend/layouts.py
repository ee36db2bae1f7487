"""What an input of three dimensions is: a sequence (b, c, t), as convolutions read it, or tokens
(b, t, c), as linear layers do."""

import torch
from torch import fx

from nupes.quantizer.frontend.registry import base_name

__all__ = ["input_is_tokens"]

LAST = {"linear", "matmul", "mm", "bmm", "layer_norm"}
"""Operators whose channels are in the last dimension."""

FIRST = {"conv1d", "batch_norm", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "prelu"}
"""Operators whose channels are in dimension 1."""

SWAPS = {"transpose", "permute", "swapaxes", "swapdims", "mT"}
"""Operators that swap the dimensions of a sequence."""


def input_is_tokens(input: fx.Node) -> bool:
    """Whether an input of three dimensions is (b, t, c), not (b, c, t): its readers tell, behind
    any functions."""
    dims = input.meta["val"].ndim
    waiting, seen = [(user, False) for user in input.users], set()
    while waiting:
        node, swapped = waiting.pop(0)
        name = base_name(node)
        if name in LAST | FIRST:
            return (name in LAST) != swapped
        value = node.meta.get("val")
        if node in seen or not isinstance(value, torch.Tensor) or value.ndim != dims:
            continue
        seen.add(node)
        waiting += [(user, swapped != (name in SWAPS)) for user in node.users]
    return False
