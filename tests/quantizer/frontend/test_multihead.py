"""Which multi-head attention has a stand-in while it is exported, and what that computes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import transformer

from nupes.quantizer.frontend.multihead import plain_attention


class Doubled(nn.MultiheadAttention):
    """Attention with a forward of its own."""

    def forward(self, *args: Any, **options: Any) -> Any:
        y, weights = super().forward(*args, **options)
        return 2 * y, weights


@pytest.mark.parametrize(
    ("part", "replaced"),
    [
        (nn.MultiheadAttention(8, 2, batch_first=True), True),
        (nn.MultiheadAttention(8, 2), False),
        (nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True), False),
        (nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True), False),
        (Doubled(8, 2, batch_first=True), False),
    ],
)
def test_only_plain_attention_has_a_stand_in(part: nn.Module, replaced: bool) -> None:
    with plain_attention(nn.Sequential(part)):
        assert ("forward" in vars(part)) == replaced
    assert "forward" not in vars(part)


TOKENS = 5

CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)

ADDED = torch.zeros(TOKENS, TOKENS).masked_fill(CAUSAL, -torch.inf)

PADDING = torch.arange(TOKENS) >= torch.tensor([[3], [5]])

MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "numbers": {"key_padding_mask": PADDING * -1e9},
    "pairs": {"attn_mask": CAUSAL},
    "pairs, a hint": {"attn_mask": ADDED, "is_causal": True},
    "both": {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
    "both, numbers": {"key_padding_mask": PADDING * -1e9, "attn_mask": ADDED},
    "each head": {"attn_mask": torch.stack([CAUSAL, CAUSAL.roll(1, 1)] * 2)},
    "each head, and padding": {
        "key_padding_mask": PADDING * -1e9, "attn_mask": torch.stack([ADDED] * 4),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_the_stand_in_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    part, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, TOKENS, 8)
    wanted = part(x, x, x, need_weights=False, **MASKS[name])[0]
    with plain_attention(part):
        found = part(x, x, x, need_weights=False, **MASKS[name])[0]
    torch.testing.assert_close(found, wanted)
    if name not in ("none", "each head"):
        assert not torch.allclose(found, part(x, x, x)[0])


def test_an_encoder_does_not_look_at_its_mask() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    module = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    before = transformer._detect_is_causal_mask
    with plain_attention(module):
        assert not transformer._detect_is_causal_mask(ADDED, None, TOKENS)
        assert transformer._detect_is_causal_mask(ADDED, True, TOKENS)
    assert transformer._detect_is_causal_mask is before
