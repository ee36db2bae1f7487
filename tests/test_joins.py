"""Networks that join tensors, from PyTorch to the RTL: concatenations, gates, swish by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.whole import run_whole


class Fire(nn.Module):
    """The module of SqueezeNet: two convolutions of one squeezed map, side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.small = nn.Conv2d(squeezed, expanded, 1)
        self.large = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.small(x)), F.relu(self.large(x))], 1)


class UNet(nn.Module):
    """A skip over a pool and back: parts whose channels are no multiple of a word."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.up, self.head = nn.Conv2d(11, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        deep = F.relu(self.deep(F.max_pool2d(skip, 3, 1, 1)))
        return self.head(F.relu(self.up(torch.cat([skip, deep], 1))))


class Gate(nn.Module):
    """Squeeze and excitation, and a gate for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.pixel, self.head = nn.Conv2d(8, 1, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = torch.sigmoid(self.pixel(x)) * x
        return self.head(x.mean((2, 3)))


class Swish(nn.Module):
    """Swish written by hand, of a map and of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        return self.head(a * torch.sigmoid(a) + a * torch.sigmoid(b))


class Gates(nn.Module):
    """Sums of products of computed maps: a map between two others, a product of complex numbers,
    the second one larger."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.values = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 12, 3, padding=1)
        self.turn, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        a, b = self.values(x).chunk(2, 1)
        c, d = (10 * self.turn(x)).chunk(2, 1)
        between = F.relu(gate * a + (1 - gate) * b)
        return self.head(torch.cat([between, a * c - b * d], 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "squeezenet": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), Fire(6, 3, 4), nn.MaxPool2d(2), Fire(8, 2, 3)
    ),
    "unet": UNet,
    "gate": Gate,
    "swish": Swish,
    "gates": Gates,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "scheme"), [("rtn", "W8A8"), ("search", "W4A4")])
def test_joined_networks_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    run_whole(running, NETWORKS[name], (3, 7, 6), scheme, method)
