"""Windows, norms over pixels and attention of channels, from PyTorch to the RTL."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.quantizer.close import images
from tests.whole import check_exact

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)


class Mixer(nn.Module):
    """A block that mixes the pixels of a map (b, 4, 4, 6) in some way, between convolutions."""

    def __init__(self, mix: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = mix
        self.first, self.last = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 3, 1)
        self.qkv, self.tokens = nn.Linear(8, 24), nn.Linear(24, 24)
        self.norm, self.talk = nn.GroupNorm(2, 8), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.mix(self, x))


def windows(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention by cosines, of two heads in rolled windows of 2 x 3 pixels."""
    x = x.permute(0, 2, 3, 1).roll((-1, -1), (1, 2))
    y = x.view(-1, 2, 2, 2, 3, 8).transpose(2, 3).reshape(-1, 6, 8)
    q, k, v = s.qkv(y).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # type: ignore[operator]
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * 3
    y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = y.view(-1, 2, 2, 2, 3, 8).transpose(2, 3).reshape(-1, 4, 6, 8)
    return y.roll((1, 1), (1, 2)).permute(0, 3, 1, 2)


def channels(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention of channels to channels, by cosines over all pixels."""
    q, k, v = s.qkv(x.flatten(2).mT).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 4, 1)  # type: ignore[operator]
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (scores.softmax(-1) @ v).reshape(-1, 8, 4, 6)


def heads(s: nn.Module, x: Tensor) -> Tensor:
    """Return queries, keys and values (3, b, 2, 16, 4) of all pixels."""
    return s.qkv(x.flatten(2).mT).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # type: ignore[operator]


def talking(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention whose heads are mixed before and behind softmax."""
    q, k, v = heads(s, x)
    weights = s.talk(s.talk(torch.einsum("bhqd,bhkd->bhqk", q, k) / 2).softmax(-1))  # type: ignore[operator]
    return (weights @ v).mT.reshape(x.shape)


def efficient(s: nn.Module, x: Tensor) -> Tensor:
    """Return attention that is linear in the pixels, keys weighted by softmax over these."""
    q, k, v = heads(s, x)
    return (q @ (k.softmax(2).mT @ v)).mT.reshape(x.shape)


MIXERS = {
    "windows": windows,
    "channels": channels,
    "talking heads": talking,
    "efficient": efficient,
    "softmax over pixels": lambda s, x: x.flatten(2).softmax(-1).view_as(x) * x,
    "tokens": lambda s, x: s.tokens(x.flatten(2)).view(x.shape),
    "groups": lambda s, x: s.norm(x).relu(),
}

ERROR = 0.003
"""Part of the output's variance that 8 bits may add as error."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS)
def test_mixers(running: Callable[..., nupes.Simulator], name: str) -> None:
    torch.manual_seed(0)
    module = Mixer(MIXERS[name]).eval()
    x = images(16, 4, 4, 6)
    network = nupes.quantize(module, "W8A8", x, method="rtn")
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < ERROR * float(expected.var())
    check_exact(running, network, (x,), ARRAY)
