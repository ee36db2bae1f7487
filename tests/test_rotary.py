"""Decoders with rotary position embeddings, in the ways in which people write them, from PyTorch to
the RTL and to ONNX Runtime."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.operators import Select, SumOfProducts
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.lowering.ports import find_ranges
from nupes.quantizer.stages.fuser import fuse
from tests.whole import check_exact

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)

TOKENS, WIDTH, HEADS = 10, 8, 2

ERROR = {"W8A8": 0.0005, "W4A4": 0.025}
"""Part of the output's variance that a scheme may add as error."""

Rotation = Callable[[Tensor, Tensor, Tensor], Tensor]


def angles(tokens: int, size: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (tokens, size / 2)."""
    speeds = 100.0 ** (-torch.arange(0, size, 2) / size)
    angle = torch.outer(torch.arange(tokens).float(), speeds)
    return angle.cos(), angle.sin()


def turned_halves(x: Tensor) -> Tensor:
    """Return the second half of the channels with the other sign, and the first half."""
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def turned_pairs(x: Tensor) -> Tensor:
    """Return the same of pairs."""
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


def by_slices(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return both halves, each a sum of two products."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def by_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return pairs as Llama has them."""
    a, b = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


ROTATIONS: dict[str, Rotation] = {
    "halves": lambda x, cos, sin: x * cos.tile(2) + turned_halves(x) * sin.tile(2),
    "halves by slices": by_slices,
    "pairs": by_pairs,
    "pairs by slices": lambda x, cos, sin: torch.stack(
        [x[..., ::2] * cos - x[..., 1::2] * sin, x[..., ::2] * sin + x[..., 1::2] * cos], -1
    ).flatten(-2),
    "pairs and tables": lambda x, cos, sin: (
        x * cos.repeat_interleave(2, -1) + turned_pairs(x) * sin.repeat_interleave(2, -1)
    ),
}


class Block(nn.Module):
    """A block as in Llama, whose queries and keys are rotated head by head, or before they are
    transposed."""

    cos: Tensor
    sin: Tensor

    def __init__(self, rotate: Rotation, early: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)])
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, 12, bias=False) for _ in range(2))
        self.down = nn.Linear(12, WIDTH, bias=False)
        self.rotate, self.early = rotate, early
        cos, sin = angles(TOKENS, WIDTH // HEADS)
        shape = (TOKENS, 1, -1) if early else (TOKENS, -1)
        self.register_buffer("cos", cos.reshape(shape))
        self.register_buffer("sin", sin.reshape(shape))

    def rotated(self, x: Tensor) -> Tensor:
        """Return heads (b, heads, t, d) of queries or keys (b, t, heads, d)."""
        if self.early:
            return self.rotate(x, self.cos, self.sin).transpose(1, 2)
        return self.rotate(x.transpose(1, 2), self.cos, self.sin)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        y = self.norms[0](x)
        q, k, v = (f(y).view(batch, tokens, HEADS, -1) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(
            self.rotated(q), self.rotated(k), v.transpose(1, 2), is_causal=True
        )
        x = x + self.o(y.transpose(1, 2).reshape(batch, tokens, width))
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """Two blocks, and the classes of each token."""

    def __init__(self, rotate: Rotation, early: bool = False, blocks: int = 1) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, WIDTH), nn.RMSNorm(WIDTH)
        self.blocks = nn.Sequential(*(Block(rotate, early) for _ in range(blocks)))
        self.head = nn.Linear(WIDTH, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("name", ROTATIONS)
def test_rotations_are_captured(name: str, early: bool) -> None:
    torch.manual_seed(0)
    module = Decoder(ROTATIONS[name], early).eval()
    program = export_module(module, (2, TOKENS, 5))
    graph = capture(program)
    network = fuse(graph)
    x = torch.randn(2, TOKENS, 5)
    verify_capture(program, graph, network, Batch((x,)))
    # Queries and keys are rotated by one layer each; heads are ranges of what it gives.
    kinds = Counter(type(node.op).__name__ for node in graph.nodes.values())
    assert kinds["SumOfProducts"] == 2
    assert kinds["Product"] == 1  # the gated unit
    assert kinds["Mosaic"] == 0
    chosen = [op for node in graph.nodes.values() if isinstance(op := node.op, Select)]
    assert all(op.first is not None for op in chosen)
    assert len(find_ranges(network)) == len(chosen)


@pytest.mark.parametrize(
    ("name", "scheme", "early"),
    [
        ("halves", "W8A8", False),
        ("pairs", "W8A8", True),
        ("halves by slices", "W4A4", False),
        ("pairs and tables", "W4A4", True),
    ],
)
def test_decoders_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, scheme: str, early: bool
) -> None:
    torch.manual_seed(0)
    module = Decoder(ROTATIONS[name], early).eval()
    x = np.random.default_rng(0).normal(size=(64, TOKENS, 5)).astype(np.float32)
    network = nupes.quantize(module, scheme, x, method="rtn")
    for layer in network.layers:
        if isinstance(layer.op, SumOfProducts):
            read = [network.tensors[port.tensor].codebook.bits for port in layer.inputs]
            assert read == [8] * 4
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < ERROR[scheme] * expected.var()
    check_exact(running, network, (x,), ARRAY)
