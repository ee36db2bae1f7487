"""Which multi-head attention has a stand-in while it is exported."""

from typing import Any

import pytest
from torch import nn

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
