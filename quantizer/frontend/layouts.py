"""What an input of two or three dimensions is: a sequence (b, c, t), as convolutions read it, or
tokens (b, t, c), as linear layers do; or a wave (b, t) or a map (b, h, w) of one channel, which
gets a dimension of its own before a convolution."""

import torch
from torch import fx

from nupes.quantizer.frontend.registry import base_name, is_pointwise, is_view

__all__ = ["input_is_tokens", "lacks_channel"]

LAST = {
    *("linear", "matmul", "mm", "bmm", "layer_norm", "rms_norm", "masked_mean"),
    "scaled_dot_product_attention",
}
"""Operators whose channels are in the last dimension."""

FIRST = {"conv1d", "batch_norm", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "prelu"}
"""Operators whose channels are in dimension 1."""

FOLDS = {"reshape", "view", "_unsafe_view", "flatten"}
"""Operators that may fold tokens into the batch."""

PLANES = {"conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"}
"""Operators of maps whose channels are in dimension 1."""

SWAPS = {"transpose", "permute", "swapaxes", "swapdims", "mT"}
"""Operators that swap the dimensions of a sequence."""


def input_is_tokens(input: fx.Node) -> bool:
    """Whether an input of three dimensions is (b, t, c), not (b, c, t): its readers tell, behind
    any functions."""
    dims, channels = input.meta["val"].ndim, input.meta["val"].shape[-1]
    waiting, seen = [(user, False) for user in input.users], set()
    while waiting:
        node, swapped = waiting.pop(0)
        name = base_name(node)
        if name in LAST | FIRST:
            return (name in LAST) != swapped
        value = node.meta.get("val")
        if node in seen or not isinstance(value, torch.Tensor) or value.ndim == 0:
            continue
        # Tokens that are folded into the batch keep their channels.
        folded = name in FOLDS and not swapped and value.shape[-1] == channels
        if value.ndim != dims and not folded:
            continue
        seen.add(node)
        waiting += [(user, swapped != (name in SWAPS)) for user in node.users]
    return False


def lacks_channel(input: fx.Node) -> bool:
    """Whether an input is of one channel and has no dimension for it: all its readers give it one
    in dimension 1, and convolutions or the like read it then, behind any functions."""
    dims = input.meta["val"].ndim
    waiting, seen, found = [(user, input, False) for user in input.users], set(), False
    while waiting:
        node, source, given = waiting.pop()
        value = node.meta.get("val")
        if given and base_name(node) in FIRST | PLANES:
            found = True
            continue
        if node in seen or not isinstance(value, torch.Tensor):
            continue
        seen.add(node)
        before = source.meta["val"].shape
        inserted = not given and value.shape == (before[0], 1, *before[1:])
        if not (is_pointwise(node) or is_view(node)) or value.ndim != dims + (given or inserted):
            return False
        waiting += [(user, node, given or inserted) for user in node.users]
    return found
