"""Ways to write a network, from PyTorch to the RTL: slopes of channels, sums with factors,
sequences, tokens, vectors,
modules used twice in regions of other types."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Keywords(nn.Module):
    """A keyword network: 1-d convolutions of a spectrogram's bands, a gate, a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(3, 6, 5, padding=2, stride=2), nn.BatchNorm1d(6)
        self.depth, self.point = (
            nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=6),
            nn.Conv1d(6, 8, 1),
        )
        self.gate, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the keywords."""
        x = F.max_pool1d(F.relu(self.norm(self.first(x))), 2)
        x = F.silu(self.point(F.pad(self.depth(x), (1, 0))))
        x = x * torch.sigmoid(self.gate(x.mean(2))).unsqueeze(2)
        return self.head(F.adaptive_avg_pool1d(F.avg_pool1d(x, 2), 1).flatten(1))


class Mixer(nn.Module):
    """Tokens: linear layers on each, a convolution over their sequence, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(3, 6), nn.Conv1d(6, 6, 3, padding=1)
        self.wide, self.narrow, self.head = nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers for each token."""
        x = self.embed(x)
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x + self.narrow(F.gelu(self.wide(x))))


class Patches(nn.Module):
    """Patches of an image as tokens, as vision transformers begin, and channels-last blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.depth = nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.wide, self.narrow, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the tokens' scores."""
        x = self.patch(x)
        y = self.narrow(F.gelu(self.wide(self.depth(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return self.head(F.relu(x + y).flatten(2).transpose(1, 2)).mean(1)


class Regions(nn.Module):
    """One convolution used twice, in regions of other types and without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.head = conv(5), conv(5, 5, padding=1), conv(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the head of what was computed in half precision."""
        with torch.no_grad():
            x = torch.relu(self.first(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.relu(self.twice(x))
        with torch.inference_mode():
            x = torch.relu(self.twice(x.float()))
        return self.head(x.double().float())


class Shuffles(nn.Module):
    """Pixel shuffles written by hand, up and down again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = conv(8), conv(3, 2, padding=1), conv(2, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the head of what was twice as large."""
        x = self.first(x).reshape(-1, 2, 2, 2, 5, 4).permute(0, 1, 4, 2, 5, 3)
        x = torch.relu(self.second(x.reshape(-1, 2, 10, 8)))
        x = x.reshape(-1, 3, 5, 2, 4, 2).permute(0, 3, 5, 1, 2, 4)
        return self.head(x.reshape(-1, 12, 5, 4))


class Attention(nn.Module):
    """A gate of the mean and the largest channel of each pixel, beside its coordinates."""

    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.head = conv(6), conv(1, 3, padding=1), conv(2, 6, 1)
        self.register_buffer("rows", torch.linspace(-1, 1, 5).view(1, 1, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the head of the gated map."""
        x = self.first(x)
        rows = self.rows.expand(len(x), 1, 5, 4)
        parts = [x.mean(1, keepdim=True), x.max(1, keepdim=True)[0], rows]
        return self.head(x * torch.sigmoid(self.gate(torch.cat(parts, 1))))


def perceptron() -> nn.Module:
    """Return linear layers on a vector."""
    hidden = nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout()
    return nn.Sequential(*hidden, nn.Linear(8, 3))


@dataclass(frozen=True)
class Example:
    """A module, the shape of one input, and the kinds of the layers that it becomes."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kinds: list[str]


EXAMPLES = {
    # A convolution of both signs, and the sums of pairs, which a residual reads; behind a sum both
    # signs are a layer, and its reader takes the sums in.
    "slopes of channels": Example(Slopes, (3, 7, 6), ["conv"] * 5),
    "shuffles by hand": Example(Shuffles, (3, 7, 6), ["conv", "mosaic", "conv", "mosaic", "conv"]),
    "gate of channels": Example(
        Attention,
        (3, 7, 6),
        ["conv", "conv", "mosaic", "max_pool", "concat", "conv", "product", "conv"],
    ),
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
