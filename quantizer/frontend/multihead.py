"""``nn.MultiheadAttention`` on its way into a program: in terms that can be captured.

PyTorch's own forward mixes images and heads in one dimension. While a module is exported, another
one stands in for it that computes the same of batches of tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import transformer

__all__ = ["plain_attention"]


@contextmanager
def plain_attention(module: nn.Module) -> Iterator[None]:
    """Let all multi-head attention of a module, batches first, be scaled dot-product attention, and
    encoders not look at the numbers of masks, which a program does not know."""
    found = [
        part
        for part in module.modules()
        if isinstance(part, nn.MultiheadAttention) and part.batch_first and can_stand(part)
    ]
    for part in found:
        part.forward = MethodType(forward, part)  # type: ignore[method-assign]
    detect = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = told_causal
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = detect
        for part in found:
            del part.forward


def told_causal(mask: Tensor | None, is_causal: bool | None = None, size: Any = None) -> bool:
    """Whether a mask is said to be causal: a hint, as it is given in any case."""
    return bool(is_causal)


def can_stand(part: nn.MultiheadAttention) -> bool:
    """Whether a module has no more than projections and heads, and PyTorch's own forward."""
    own = type(part).forward is nn.MultiheadAttention.forward
    return own and part.bias_k is None and part.bias_v is None and not part.add_zero_attn


def joined(mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """Return two masks as one: true is what does not count in theirs, and what does in the one
    returned."""
    if mask is None or padding is None:
        mask = padding if mask is None else mask
        return ~mask if mask is not None and mask.dtype == torch.bool else mask
    if mask.dtype == padding.dtype == torch.bool:
        return ~(mask | padding)
    added = (
        torch.zeros(part.shape).masked_fill(part, -torch.inf) if part.dtype == torch.bool else part
        for part in (mask, padding)
    )
    first, second = added
    return first + second


def forward(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *args: Any,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return attention of batches (b, t, c), and no weights; a hint without the mask that it is
    about is left to PyTorch, which refuses it."""
    names = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")
    given = dict(zip(names, args, strict=False)) | options
    padding, mask = given.get("key_padding_mask"), given.get("attn_mask")
    if mask is None and given.get("is_causal"):
        own: Any = nn.MultiheadAttention.forward
        return own(self, query, key, value, *args, **options)
    if mask is not None and mask.ndim == 3:
        mask = mask.unflatten(0, (-1, self.num_heads))
    mask = joined(mask, None if padding is None else padding[:, None, None, :])
    weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
    if self.in_proj_weight is not None:
        weights = self.in_proj_weight.chunk(3)
    biases: Any = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    query, key, value = (
        F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return self.out_proj(y.transpose(1, 2).flatten(2)), None
