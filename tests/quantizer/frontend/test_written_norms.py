"""Norms that are written out become one operator."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nupes
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name

EPS = 1e-5


class Written(nn.Module):
    """A function of tokens, and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(x))


def llama(x: Tensor) -> Tensor:
    x = x.to(torch.float32)
    variance = x.pow(2).mean(-1, keepdim=True)
    return (x * torch.rsqrt(variance + EPS)).to(x.dtype)


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "llama": llama,
    "factor first": lambda x: torch.rsqrt((x**2).mean(-1, keepdim=True) + EPS) * x,
    "division": lambda x: x / torch.sqrt((x * x).mean(2, keepdim=True) + EPS),
    "power": lambda x: x * (x.square().mean(-1, True) + EPS).pow(-0.5),
    "root as power": lambda x: x / (x.square().mean(-1, True) + EPS) ** 0.5,
}


def deviation(x: Tensor, dim: int = -1) -> Tensor:
    return x - x.mean(dim, keepdim=True)


def cohere(x: Tensor) -> Tensor:
    mean = x.to(torch.float32).mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return ((x - mean) * torch.rsqrt(variance + EPS)).to(x.dtype)


def shared(x: Tensor) -> Tensor:
    x = deviation(x)
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + EPS)


CENTRED: dict[str, Callable[[Tensor], Tensor]] = {
    "cohere": cohere,
    "shared": shared,
    "var": lambda x: deviation(x) / (x.var(-1, keepdim=True, unbiased=False) + EPS).sqrt(),
    "correction": lambda x: (x.var(-1, correction=0, keepdim=True) + EPS) ** -0.5 * deviation(x),
}

OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "of another tensor": lambda x: x * torch.rsqrt((2 * x).pow(2).mean(-1, keepdim=True) + EPS),
    "over all": lambda x: x * torch.rsqrt(x.pow(2).mean((1, 2), keepdim=True) + EPS),
    "of an unbiased variance": lambda x: deviation(x) * (x.var(-1, keepdim=True) + EPS) ** -0.5,
    "of other deviations": lambda x: (
        deviation(x, 1) * (x.var(-1, keepdim=True, correction=0) + EPS) ** -0.5
    ),
    "of a variance without deviations": lambda x: (
        x * (x.var(-1, keepdim=True, correction=0) + EPS) ** -0.5
    ),
    "of cubes": lambda x: x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True) + 9),
    "rounded": lambda x: torch.div(
        x, torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS), rounding_mode="floor"
    ),
    "with an epsilon of zero": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0),
    "without an epsilon": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
}


def norms(function: Callable[[Tensor], Tensor]) -> list[tuple[object, ...]]:
    program = prepare(export_module(Written(function).eval(), (2, 5, 6)))
    names = {"rms_norm", "layer_norm"}
    return [(base_name(n), *n.args[1:]) for n in program.live() if base_name(n) in names]


@pytest.mark.parametrize("name", NORMS)
def test_one_operator(name: str) -> None:
    assert norms(NORMS[name]) == [("rms_norm", [6], None, EPS)]


@pytest.mark.parametrize("name", CENTRED)
def test_one_layer_norm(name: str) -> None:
    assert norms(CENTRED[name]) == [("layer_norm", [6], None, None, EPS)]


@pytest.mark.parametrize("name", [*NORMS, *CENTRED])
def test_it_gives_the_same_numbers(name: str) -> None:
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    if name in NORMS:
        torch.testing.assert_close(nn.functional.rms_norm(x, (6,), eps=EPS), NORMS[name](x))
    else:
        torch.testing.assert_close(nn.functional.layer_norm(x, (6,), eps=EPS), CENTRED[name](x))


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_none(name: str) -> None:
    assert norms(OTHERS[name]) == []


class Maps(nn.Module):
    """A layer norm of each pixel's channels, the second dimension of maps, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.weight = nn.Parameter(torch.rand(6, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.head(self.weight * ((x - mean) / torch.sqrt(variance + EPS)))


def test_channels_before_rows() -> None:
    torch.manual_seed(0)
    module, x = Maps().eval(), torch.randn(32, 3, 4, 5)
    network = nupes.quantize(module, "W8A8", x.numpy(), method="rtn")
    assert [layer.op.kind for layer in network.layers].count("normalize") == 1
    error = network(x.numpy()) - module(x).detach().numpy()
    assert np.square(error).mean() < 0.01 * module(x).var().item()
