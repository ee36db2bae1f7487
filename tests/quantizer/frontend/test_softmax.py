"""Attention that is written by hand is attention, whatever takes its masked scores' place."""

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name

Way = Callable[[Tensor, Tensor, Tensor], Tensor]

TOKENS = 5
CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
LOWEST = torch.finfo(torch.float32).min


class Attention(nn.Module):
    """Two heads of one linear layer, whose weights are applied in some way."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head, self.way = nn.Linear(6, 24), nn.Linear(8, 3), way

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return self.head(self.way(q, k, v).transpose(1, 2).flatten(2))


def by_hand(change: Callable[[Tensor], Tensor]) -> Way:
    """Return attention whose scores are changed before softmax."""
    return lambda q, k, v: F.softmax(change(q @ k.transpose(-2, -1) / 2), -1) @ v


def folded(change: Callable[[Tensor], Tensor]) -> Way:
    """Return attention whose heads are folded into the batch."""

    def way(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, h, t, d = q.shape
        q, k, v = (x.reshape(b * h, t, d) for x in (q, k, v))
        scores = change(torch.bmm(q, k.transpose(1, 2)).view(b, h, t, t) * 0.5)
        return torch.bmm(F.softmax(scores.view(b * h, t, t), -1), v).view(b, h, t, d)

    return way


ADDED = torch.zeros(TOKENS, TOKENS).masked_fill(~CAUSAL, LOWEST)
MASKS: dict[str, Way] = {
    "added": by_hand(lambda s: s + ADDED),
    "subtracted, then divided": lambda q, k, v: (
        F.softmax((q @ k.transpose(-2, -1) + ADDED) / 2, -1) @ v
    ),
    "filled": by_hand(lambda s: s.masked_fill(~CAUSAL, -inf)),
    "filled with a large number": by_hand(lambda s: s.masked_fill(~CAUSAL, -1e4)),
    "where": by_hand(lambda s: torch.where(CAUSAL, s, torch.tensor(LOWEST))),
    "where, the other way round": by_hand(lambda s: torch.where(~CAUSAL, -1e9, s)),
    "filled twice": by_hand(
        lambda s: s.masked_fill(~CAUSAL, -inf).masked_fill(~CAUSAL.expand(1, 1, -1, -1), -1e5)
    ),
    "filled, then scaled": lambda q, k, v: (
        F.softmax((q @ k.transpose(-2, -1)).masked_fill(~CAUSAL, -1e5) * 0.5, -1) @ v
    ),
    "filled, then made small": lambda q, k, v: (
        F.softmax((q @ k.transpose(-2, -1)).masked_fill(~CAUSAL, -1e3) / 2, -1) @ v
    ),
    "no lower than the lowest": by_hand(lambda s: torch.max(s + ADDED, torch.tensor(LOWEST))),
    "folded": folded(lambda s: s + ADDED),
    "times a mask": by_hand(lambda s: s * CAUSAL.float() + -1e4 * (1 - CAUSAL.float())),
}


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=ADDED)


def quantized(way: Way) -> np.ndarray:
    """Return what the integer network of attention gives."""
    x = np.random.default_rng(0).normal(size=(32, TOKENS, 6)).astype(np.float32)
    return nupes.quantize(Attention(way).eval(), "W8A8", x, method="rtn")(x)


@pytest.mark.parametrize("name", MASKS)
def test_the_integers_are_those_of_attention_with_a_mask(name: str) -> None:
    np.testing.assert_array_equal(quantized(MASKS[name]), quantized(plain))


OTHERS: dict[str, Way] = {
    "a number that counts": by_hand(lambda s: s.masked_fill(~CAUSAL, -3.0)),
    "a number that counts once it is divided": lambda q, k, v: (
        F.softmax((q @ k.transpose(-2, -1)).masked_fill(~CAUSAL, -1e4) * 1e-3, -1) @ v
    ),
    "whole scores": by_hand(lambda s: s.to(torch.long).float()),
    "five dimensions": by_hand(lambda s: (s[:, None] + ADDED[None, None, None]).squeeze(1)),
    "a tensor": by_hand(lambda s: torch.where(CAUSAL, s, ADDED)),
    "the scores' own maximum": by_hand(lambda s: torch.max(s, torch.tensor(-1.0))),
    "times a mask of which some counts": by_hand(
        lambda s: s * CAUSAL.float() + -1e4 * (1 - CAUSAL.roll(1, 0).float())
    ),
    "times another number": by_hand(lambda s: s * (2 * CAUSAL.float()) + ADDED.clamp(min=-1e4)),
    "squares": by_hand(lambda s: s * s),
    "whole numbers": by_hand(lambda s: torch.div(s, 2.0, rounding_mode="floor")),
    "other scores": by_hand(lambda s: torch.where(CAUSAL, s, s.flip(-1))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_not_attention(name: str) -> None:
    program = prepare(export_module(Attention(OTHERS[name]).eval(), (2, TOKENS, 6)))
    kinds = {base_name(node) for node in program.live() if node.op == "call_function"}
    assert "scaled_dot_product_attention" not in kinds


def shared_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = k[:, :1], v[:, :1]
    return F.softmax(q @ k.transpose(-2, -1) / 2, -1) @ v


def test_heads_may_share_keys_and_values() -> None:
    def repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x[:, :1].repeat(1, 2, 1, 1) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v)

    expected = quantized(repeated)
    np.testing.assert_array_equal(quantized(shared_heads), expected)
    broadcast = quantized(lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1]))
    np.testing.assert_array_equal(broadcast, expected)
