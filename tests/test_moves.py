"""Networks that move channels and pixels, from PyTorch to the RTL: shuffles, splits, crops."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.whole import run_whole


def unit(channels: int) -> nn.Sequential:
    """Return the branch of a ShuffleNet unit that computes."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class ShuffleUnit(nn.Module):
    """The basic unit of ShuffleNet v2: one half is computed, both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = unit(channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        x = torch.cat((first, self.branch(second)), 1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


class GroupedUnit(nn.Module):
    """The unit of ShuffleNet v1: a shuffle between convolutions in groups."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1, groups=2)
        self.depth = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.last = nn.Conv2d(channels, channels, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.channel_shuffle(F.relu(self.first(x)), 2)
        return F.relu(x + self.last(self.depth(y)))


class Partial(nn.Module):
    """A stage of a cross-stage partial network: parts of a split, each of the last, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 1), nn.Conv2d(16, 4, 1)
        self.steps = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(F.silu(self.head(x)).split((4, 4), 1))
        for step in self.steps:
            parts.append(F.relu(step(parts[-1])) + parts[-1])
        return self.tail(torch.cat(parts, 1))


class Slices(nn.Module):
    """Slices of slices for every kind of reader, within words and from their beginning on."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 11, 1), nn.Conv2d(9, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.head(x))
        pooled = F.max_pool2d(x[:, 4:7], 3, 1, 1) + F.max_pool2d(x[:, 2:5], 3, 1, 1)
        gated = x[:, 1:][:, 3:9][:, 1:4] * torch.sigmoid(x[:, 8:9])
        rest = x[:, 1::4] + x[:, torch.tensor([10, 0, 0])]
        return self.tail(torch.cat([pooled, F.avg_pool2d(gated, 3, 1, 1), rest], 1))


class Crops(nn.Module):
    """Crops and padding that no other operator takes in."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3)
        self.linear = nn.Linear(4 * 3 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y = self.second(x)
        y = y - x[:, :4, 1:-1, 1:-1] + F.pad(y[:, :, ::2], (-1, 1, 0, 1))
        return self.linear(F.pad(y, (0, 0)).permute(0, 2, 3, 1).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "shufflenet v2": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), ShuffleUnit(8), ShuffleUnit(8), nn.Conv2d(8, 4, 1)
    ),
    "shufflenet v1": lambda: nn.Sequential(nn.Conv2d(3, 6, 1), GroupedUnit(6), nn.Conv2d(6, 3, 3)),
    "partial": Partial,
    "slices": Slices,
    "crops": Crops,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "scheme"), [("rtn", "W8A8"), ("search", "W4A4")])
def test_moves_are_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    run_whole(running, NETWORKS[name], (3, 7, 6), scheme, method)
