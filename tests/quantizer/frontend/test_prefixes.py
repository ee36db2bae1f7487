"""Rotations of all tokens but the first ones are rotations of all tokens."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import is_call

TOKENS, FIRST = 6, 2

Turn = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x[..., :2], x[..., 2:]
    return x * cos + torch.cat((-second, first), -1) * sin


def by_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    pairs = torch.stack([-x[..., 1::2], x[..., ::2]], -1)
    return sin * pairs.reshape(x.shape) + cos * x


def by_chunks(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return (torch.cat((second.neg(), first), -1) * sin + x * cos).to(x.dtype)


class Attention(nn.Module):
    """Two heads, whose queries and keys are turned but for the first tokens."""

    def __init__(self, turn: Turn, split: bool, first: int = FIRST) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head = nn.Linear(5, 24), nn.Linear(8, 3)
        self.turn, self.split, self.first = turn, split, first
        angles = torch.rand(TOKENS - FIRST, 4)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotated(self, x: Tensor) -> Tensor:
        if self.split:
            kept, rest = x.split([self.first, TOKENS - self.first], -2)
        else:
            kept, rest = x[:, :, : self.first], x[:, :, self.first :, :]
        return torch.cat([kept, self.turn(rest, self.cos, self.sin)], 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v)
        return self.head(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("split", [True, False], ids=["split", "sliced"])
@pytest.mark.parametrize("turn", [by_halves, by_pairs, by_chunks])
def test_the_first_tokens_stay_as_they_are(turn: Turn, split: bool) -> None:
    module = Attention(turn, split).eval()
    x = np.random.default_rng(0).normal(size=(32, TOKENS, 5)).astype(np.float32)
    network = nupes.quantize(module, "W8A8", x, method="rtn")
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < 0.01 * expected.var()
    turned = [layer.op.kind for layer in network.layers].count("sum_of_products")
    assert turned == 2


def squares(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + x * x * sin


def sums(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + x.flip(2) * sin


@pytest.mark.parametrize("turn", [squares, sums])
def test_others_stay_as_they_are(turn: Turn) -> None:
    program = prepare(export_module(Attention(turn, True).eval(), (2, TOKENS, 5)))
    joined = [node for node in program.live() if is_call(node, {"cat"})]
    assert [node.args[1] for node in joined] == [2, 2]
