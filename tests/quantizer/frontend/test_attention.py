"""Norms and attention that cannot be captured are refused by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture


class Made(nn.Module):
    """A function of what a linear layer makes of tokens."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


def split(x: Tensor, heads: int) -> Tensor:
    """Return the heads of tokens."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def attend(x: Tensor, keys: int = 2, **options: object) -> Tensor:
    """Return attention of two heads."""
    key = split(x, keys)[..., :4].contiguous()
    y = F.scaled_dot_product_attention(split(x, 2), key, key, **options)  # type: ignore[arg-type]
    return y.transpose(1, 2).flatten(2)


REFUSED = {
    "a norm must be over all 8 channels, in the last dimension, not over the last dimensions "
    "[5, 8]": lambda x: F.layer_norm(x, (5, 8)),
    "a norm must be over all 8 channels, in the last dimension, not over the last dimensions "
    "[5]": lambda x: F.layer_norm(x.transpose(1, 2), (5,)).transpose(1, 2),
    "eps of a norm must be positive, not 0.0": lambda x: F.layer_norm(x, (8,), eps=0.0),
    "dropout must be off; export the module after eval()": lambda x: attend(x, dropout_p=0.5),
    "its argument 'is_causal' must be False, not True": lambda x: attend(x, is_causal=True),
    "its argument 'attn_mask' must be None, not": lambda x: attend(x, attn_mask=torch.zeros(5, 5)),
    "queries, keys and values must be (batch, heads, tokens, channels), each head some channels of "
    "a sequence of tokens, not a tensor (2, 5, 2, 4) of others": lambda x: (
        F.scaled_dot_product_attention(*[x.unflatten(2, (2, -1))] * 3).flatten(2)
    ),
    "queries, keys and values must have one number of heads": lambda x: attend(x, keys=1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_captured(message: str) -> None:
    program = export_module(Made(REFUSED[message]).eval(), (2, 5, 6))
    with pytest.raises(UnsupportedError) as error:
        capture(program)
    assert message in str(error.value)
