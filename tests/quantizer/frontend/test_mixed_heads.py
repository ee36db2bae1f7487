"""Heads of attention that are mixed by constants are attention of plain heads, however that is
written."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.frontend.mixed_heads import join_mixed_heads
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken

TOKENS = torch.from_numpy(images(2, 5, 6))

MIX = torch.tensor([[0.7, -0.4], [0.3, 0.9]])
"""How the layers mix two heads, in whatever way they are written."""

SHIFT = torch.tensor([0.2, -0.1])
"""What they add to each."""

Mix = Callable[["Attention", Tensor], Tensor]


class Attention(nn.Module):
    """Attention of two heads whose scores and weights some functions change."""

    def __init__(self, scores: Mix, weights: Mix) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head, self.scores, self.weights = (
            nn.Linear(6, 24),
            nn.Linear(8, 3),
            scores,
            weights,
        )
        self.linear, self.conv = nn.Linear(2, 2), nn.Conv2d(2, 2, 1)
        for layer in (self.linear, self.conv):
            layer.weight.data = MIX.reshape(layer.weight.shape).clone()
            layer.bias.data = SHIFT.clone()
        self.mix = nn.Parameter(MIX.clone())
        self.shift = nn.Parameter(SHIFT.clone())
        self.gate = nn.Parameter(torch.tensor([0.3, -0.5]))
        self.positions = nn.Parameter(torch.randn(2, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        weights = self.scores(self, q @ k.transpose(-2, -1) / 2).softmax(-1)
        return self.head((self.weights(self, weights) @ v).transpose(1, 2).flatten(2))


def plain(s: Attention, x: Tensor) -> Tensor:
    return x


def gated(s: Attention, x: Tensor) -> Tensor:
    """Return weights beside such of positions, divided by their sums."""
    gate = s.gate.sigmoid().view(1, -1, 1, 1)
    x = (1 - gate) * x + gate * s.positions.softmax(-1)
    return x / x.sum(-1).unsqueeze(-1)


WAYS: dict[str, Mix] = {
    "a linear layer": lambda s, x: s.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "moved": lambda s, x: s.linear(x.movedim(1, -1)).movedim(-1, 1),
    "transposed": lambda s, x: s.linear(x.transpose(1, 3)).transpose(1, 3),
    "a convolution": lambda s, x: s.conv(x),
    "an einsum": lambda s, x: torch.einsum("bhqk,gh->bgqk", x, s.mix) + s.shift[:, None, None],
    "a product": lambda s, x: (s.mix @ x.flatten(2) + s.shift[:, None]).view(x.shape),
    "biased": lambda s, x: s.conv(x + s.positions * 0.1) + s.positions * 0.2,
    "twice": lambda s, x: s.conv(s.conv(x) * 0.5),
}

ONLY_WEIGHTS: dict[str, Mix] = {
    "gated": gated,
    "a number of each head": lambda s, x: x * s.gate.view(2, 1, 1),
    "and a constant": lambda s, x: x + s.positions * 0.2,
}


@pytest.mark.parametrize("name", WAYS)
def test_mixed_scores_and_weights(name: str) -> None:
    taken(Attention(WAYS[name], WAYS[name]).eval(), TOKENS)


@pytest.mark.parametrize("name", ONLY_WEIGHTS)
def test_changed_weights(name: str) -> None:
    taken(Attention(plain, ONLY_WEIGHTS[name]).eval(), TOKENS)


def test_masks_behind_mixed_scores() -> None:
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    taken(Attention(lambda s, x: s.conv(x).masked_fill(mask, -torch.inf), plain), TOKENS)
    low = torch.zeros(5, 5).masked_fill(mask, -torch.inf)
    taken(Attention(lambda s, x: s.conv(x) + low, plain), TOKENS)


OTHERS: dict[str, tuple[Mix, Mix]] = {
    "a mask before": (
        lambda s, x: s.conv(x + torch.ones(5, 5).triu(1) * -1e4), plain
    ),
    "keys": (lambda s, x: x @ s.positions, plain),
    "a factor of each pair": (plain, lambda s, x: x * s.positions.exp()),
    "sums that differ": (plain, lambda s, x: (x + s.positions) / (x + s.positions).sum(-1, True)),
    "functions": (plain, lambda s, x: s.conv(x).relu()),
    "rolled": (lambda s, x: s.conv(x.roll(1, 2)), plain),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left(name: str) -> None:
    program = prepare(export_module(Attention(*OTHERS[name]).eval(), TOKENS.shape))
    names = {base_name(node) for node in program.graph.nodes if node.op == "call_function"}
    assert "held" not in names


def test_a_graph_without_mixed_heads_is_itself() -> None:
    graph = export_module(Attention(plain, plain).eval(), TOKENS.shape).graph
    held = [None for node in graph.nodes if node.op == "placeholder"]
    assert join_mixed_heads(graph, held) is graph
