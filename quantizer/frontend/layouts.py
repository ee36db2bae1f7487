"""Where a torch value has its channels: in dimension 1, as convolutions have them, or in the last
one, as linear layers on tokens do. A map is the same in both; permutations move nothing."""

import torch
from torch import fx

from nupes.quantizer.frontend.registry import base_name

__all__ = ["channel_axis", "input_is_tokens", "spatial_axes"]

LAST = {"linear", "matmul", "mm", "layer_norm"}
"""Operators whose channels are in the last dimension."""

FIRST = {"conv1d", "batch_norm", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "prelu"}
"""Operators whose channels are in dimension 1."""

SWAPS = {"transpose", "permute", "swapaxes", "swapdims", "mT"}
"""Operators that swap the dimensions of a sequence."""


def channel_axis(dims: int, last: bool) -> int:
    """Return the dimension of the channels of a value of so many dimensions."""
    return dims - 1 if last else 1


def spatial_axes(dims: int, last: bool) -> list[int]:
    """Return the dimensions that are neither the batch nor the channels."""
    return [axis for axis in range(1, dims) if axis != channel_axis(dims, last)]


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
