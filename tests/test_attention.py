"""Transformers, from PyTorch to the RTL and to ONNX Runtime."""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.whole import check_exact

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True)

ERROR = {"W8A8": 0.003, "W4A4": 0.1}
"""Part of the output's variance that a scheme may add as error."""


class Attention(nn.Module):
    """Self-attention written by hand: one projection to queries, keys and values, another back."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.project(x).chunk(3, -1)
        query, key, value = (p.view(batch, tokens, self.heads, -1).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(query, key, value)
        return self.back(y.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """A block whose norms come first, or last."""

    def __init__(self, width: int, heads: int, norm: Callable[[int], nn.Module], first: bool):
        super().__init__()
        self.norms = nn.ModuleList([norm(width), norm(width)])
        self.attention, self.first = Attention(width, heads), first
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attention(self.norms[0](x))
            return x + self.mlp(self.norms[1](x))
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.mlp(x))


class Encoder(nn.Module):
    """Two blocks, and the classes of the tokens' mean."""

    def __init__(
        self,
        width: int = 8,
        heads: int = 2,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        first: bool = True,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.blocks = nn.Sequential(*(Block(width, heads, norm, first) for _ in range(2)))
        self.norm, self.head = norm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))).mean(1))


def drawn(module: nn.Module) -> nn.Module:
    """Return a module whose norms have gains of both signs, and offsets."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return module


class Written(Attention):
    """Attention without PyTorch's operator of it."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.project(x).chunk(3, -1)
        query, key, value = (p.view(batch, tokens, self.heads, -1).transpose(1, 2) for p in parts)
        scores = query @ key.transpose(-2, -1) / (width // self.heads) ** 0.5
        y = F.dropout(scores.softmax(-1), 0.1, self.training) @ value
        return self.back(y.transpose(1, 2).reshape(batch, tokens, width))


class Layers(nn.Module):
    """PyTorch's own encoder layers."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=first, activation="gelu"
        )
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)).mean(1))


class Pooled(nn.Module):
    """Multi-head attention of its own, with weights that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y, _ = self.attention(x, x, x)
        return self.head((x + y).mean(1))


def written() -> nn.Module:
    """Return an encoder whose attention is written by hand."""
    module = Encoder()
    for block in module.blocks:
        block.attention = Written(8, 2)  # type: ignore[assignment]
    return module


MODULES: dict[str, Callable[[], nn.Module]] = {
    "layer norms": Encoder,
    "gains": lambda: drawn(Encoder()),
    "one head": lambda: Encoder(heads=1),
    "root mean square norms": lambda: Encoder(norm=nn.RMSNorm),
    "norms last": lambda: Encoder(first=False),
    "written by hand": written,
    "encoder layers": lambda: Layers(first=True),
    "encoder layers, norms last": lambda: Layers(first=False),
    "multi-head attention": Pooled,
}


FAST = dict(zip(MODULES, cycle(ERROR), strict=False))  # each module in one scheme, in turn
CASES = [
    pytest.param(name, scheme, "rtn", marks=[] if FAST[name] == scheme else pytest.mark.slow)
    for name in MODULES
    for scheme in ERROR
]
CASES.append(pytest.param("layer norms", "W4A4", "search", marks=pytest.mark.slow))


@pytest.mark.parametrize(("name", "scheme", "method"), CASES)
def test_encoders_are_exact(
    running: Callable[..., nupes.Simulator], name: str, scheme: str, method: str
) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    x = np.random.default_rng(0).normal(size=(64, 5, 6)).astype(np.float32)
    network = nupes.quantize(module, scheme, x, method=method)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < ERROR[scheme] * expected.var()
    check_exact(running, network, (x,), ARRAY)


def test_the_stream_has_one_scale_and_is_added_as_it_is() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(16, 5, 6)).astype(np.float32)
    network = nupes.quantize(Encoder().eval(), "W8A8", x, method="rtn")
    wide = {name: tensor for name, tensor in network.stored.items() if tensor.format.kind == "wide"}
    added = [layer.residual for layer in network.layers if layer.residual is not None]
    assert {item.port.tensor for item in added} <= set(wide)
    assert {(item.mult, item.shift) for item in added} == {(32768, 15)}
    assert len({wide[item.port.tensor].scale for item in added}) == 1
    kinds = [layer.op.kind for layer in network.layers]
    assert kinds.count("matmul") == kinds.count("subtract_max") == kinds.count("weighted_mean") == 4
    assert kinds.count("normalize") == 5
