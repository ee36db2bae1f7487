"""Networks of several outputs, from PyTorch to the RTL."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

import nupes
from tests.quantizer.close import images
from tests.whole import ARRAY, run_whole


class Detector(nn.Module):
    """Two scales, each with a head of boxes and one of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, 2, 1)
        self.boxes = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in (6, 8))
        self.classes = nn.ModuleList(nn.Conv2d(c, 5, 1) for c in (6, 8))

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        x = F.relu(self.first(x))
        maps = [x, F.relu(self.second(x))]
        return {
            "classes": [head(y) for head, y in zip(self.classes, maps, strict=True)],
            "boxes": [10 * head(y) for head, y in zip(self.boxes, maps, strict=True)],
        }


class Features(nn.Module):
    """An embedding that is also read by the classifier, a function of it, and its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = F.relu(self.conv(x))
        embedding = y.mean((2, 3))
        return embedding, self.head(embedding), torch.sigmoid(embedding), *embedding.chunk(2, 1), y


class Orders(nn.Module):
    """A map with its channels first and last, its pixels as tokens, a vector, two halves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.conv(x)
        z = F.relu(y).permute(0, 2, 3, 1)
        tokens = z.flatten(1, 2)
        halves = torch.tanh(z).chunk(2, 3)
        return y, z, self.head(z), self.head(tokens).mT, tokens.mean(1), *halves


class Tokens(nn.Module):
    """Tokens, the same as a sequence, some of both, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(4, 6), nn.Conv1d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(self.embed(x))
        y = self.mix(x.transpose(1, 2))
        some = torch.sigmoid(x[:, 1:-1])
        return x, y, some, y[:, 2:], x[..., ::2], x.mean(1)


class Sequence(nn.Module):
    """A sequence, the same as tokens, a part of it, and its largest values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv(x)
        return x, self.head(F.silu(x).transpose(1, 2)), x[:, :, 3:], F.relu(x).amax(2)


def perceptron() -> nn.Module:
    """Return linear layers on a vector."""
    return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "detector": (Detector, (3, 7, 6)),
    "features": (Features, (3, 7, 6)),
    "orders": (Orders, (3, 7, 6)),
    "tokens": (Tokens, (9, 4)),
    "sequence": (Sequence, (3, 10)),
    "vector": (perceptron, (9,)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "scheme"), [("rtn", "W8A8"), ("search", "W4A4")])
def test_every_output_is_exact_on_the_rtl(
    running: Callable[..., nupes.Simulator], name: str, method: str, scheme: str
) -> None:
    make, shape = NETWORKS[name]
    network, x = run_whole(running, make, shape, scheme, method), images(2, *shape, seed=1)
    outputs = running(ARRAY).run(nupes.compile(network, ARRAY), x).outputs
    for found, expected in zip(tree_leaves(outputs), tree_leaves(network(x)), strict=True):
        np.testing.assert_array_equal(found, expected)
