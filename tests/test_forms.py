"""Ways to write a network, from PyTorch to the RTL: slopes of channels, sums with factors."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import nupes
from tests.quantizer.test_operators import conv
from tests.whole import run_whole


class Slopes(nn.Module):
    """Residual blocks of super-resolution networks: PReLU behind a convolution and behind a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(5, padding=1), conv(5, 5, padding=1)
        self.norm, self.head = nn.BatchNorm2d(5), conv(4, 5)
        self.inner, self.outer = nn.PReLU(5), nn.PReLU(5)
        for part in (self.inner, self.outer):
            nn.init.uniform_(part.weight, -0.5, 1.2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the head of a sum."""
        x = self.inner(self.norm(self.first(x)))
        return self.head(self.outer(x + self.second(x)))


class Factors(nn.Module):
    """Sums and differences with factors, of tensors that are read again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv(5), conv(5, 5, padding=1), conv(5, 5, 1)
        self.head = conv(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the head of an interpolation."""
        x = torch.relu(self.first(x))
        y = torch.relu(self.second(x) - x)
        return self.head(torch.lerp(self.third(y), y, 0.3) - torch.tanh(x))


@dataclass(frozen=True)
class Example:
    """A module, the shape of one input, and the kinds of the layers that it becomes."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kinds: list[str]


EXAMPLES = {
    # A convolution of both signs, and the sums of pairs; behind a sum both signs are a layer.
    "slopes of channels": Example(Slopes, (3, 7, 6), ["conv"] * 6),
    # A factor costs no layer; the function of a tensor that is read again does.
    "sums with factors": Example(
        Factors, (3, 7, 6), ["conv", "conv", "conv", "select", "select", "conv"]
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(("scheme", "method"), [("W8A8", "rtn"), ("W4A4", "search")])
def test_forms_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, scheme: str, method: str
) -> None:
    example = EXAMPLES[name]
    network = run_whole(running, example.make, example.shape, scheme, method)
    assert [layer.op.kind for layer in network.layers] == example.kinds
