"""Root-mean-square norms that are written out become one operator."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

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

OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "of another tensor": lambda x: x * torch.rsqrt((2 * x).pow(2).mean(-1, keepdim=True) + EPS),
    "over tokens": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + EPS),
    "of cubes": lambda x: x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True) + 9),
    "rounded": lambda x: torch.div(
        x, torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS), rounding_mode="floor"
    ),
    "with an epsilon of zero": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0),
    "without an epsilon": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
}


def norms(function: Callable[[Tensor], Tensor]) -> list[tuple[object, ...]]:
    program = prepare(export_module(Written(function).eval(), (2, 5, 6)))
    return [n.args[1:] for n in program.live() if base_name(n) == "rms_norm"]


@pytest.mark.parametrize("name", NORMS)
def test_one_operator(name: str) -> None:
    assert norms(NORMS[name]) == [([6], None, EPS)]


@pytest.mark.parametrize("name", NORMS)
def test_it_gives_the_same_numbers(name: str) -> None:
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nn.functional.rms_norm(x, (6,), eps=EPS), NORMS[name](x))


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_none(name: str) -> None:
    assert norms(OTHERS[name]) == []
