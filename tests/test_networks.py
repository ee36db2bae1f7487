"""Networks that people bring, small, from PyTorch to the RTL: segmentation, detection, mobile
classifiers, keywords."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from tests.quantizer.close import randomize_norms
from tests.whole import run_whole


def block(channels: int, filters: int, size: int = 3, stride: int = 1, groups: int = 1) -> list:
    """Return a convolution and its batch norm."""
    padding = size // 2
    conv = nn.Conv2d(channels, filters, size, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(filters)]


class UNet(nn.Module):
    """Segmentation: two steps down, two up by transposed convolutions, a skip over each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.double(3, 6)
        self.second = self.double(6, 8)
        self.deep = self.double(8, 12)
        self.up_second, self.up_first = (
            nn.ConvTranspose2d(12, 8, 2, 2),
            nn.ConvTranspose2d(8, 6, 2, 2),
        )
        self.join_second, self.join_first = self.double(16, 8), self.double(12, 6)
        self.head = nn.Conv2d(6, 2, 1)

    @staticmethod
    def double(channels: int, filters: int) -> nn.Module:
        """Return two convolutions with norms and functions."""
        return nn.Sequential(
            *block(channels, filters), nn.ReLU(inplace=True),
            *block(filters, filters), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return two classes of each pixel."""
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        x = self.up_second(self.deep(F.max_pool2d(second, 2)))
        x = self.up_first(self.join_second(torch.cat([second, x], 1)))
        return self.head(self.join_first(torch.cat([first, x], 1)))


class Detector(nn.Module):
    """Detection: a pyramid of two maps, the small one upsampled into the large one, and of each a
    head for classes and one for boxes, all anchors in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Sequential(*block(3, 6, stride=2), nn.SiLU(), *block(6, 6), nn.SiLU())
        self.small = nn.Sequential(*block(6, 8, stride=2), nn.SiLU())
        self.lateral = nn.Sequential(*block(14, 8, 1), nn.SiLU())
        self.classes, self.boxes = nn.Conv2d(8, 2 * 3, 3, padding=1), nn.Conv2d(8, 2 * 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return three scores and four coordinates for two anchors of each pixel of both maps."""
        large = self.large(x)
        small = self.small(large)
        large = self.lateral(torch.cat([F.interpolate(small, scale_factor=2), large], 1))
        return self.anchors(self.classes, large, small), self.anchors(self.boxes, large, small)

    @staticmethod
    def anchors(head: nn.Conv2d, *maps: Tensor) -> Tensor:
        """Return what a head gives for maps, (b, anchors, numbers)."""
        parts = [head(y).permute(0, 2, 3, 1) for y in maps]
        return torch.cat([part.reshape(len(part), -1, head.out_channels // 2) for part in parts], 1)


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, squeezed: int, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.squeeze, self.excite = (
            nn.Conv2d(channels, squeezed, 1),
            nn.Conv2d(squeezed, channels, 1),
        )
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels, each weighed."""
        return x * self.gate(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    """An inverted residual block: wider, depthwise, squeezed and excited, narrow again."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        function: type[nn.Module],
        gate: Callable[[Tensor], Tensor],
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        channels, wide, filters = sizes
        self.body = nn.Sequential(
            *block(channels, wide, 1), function(),
            *block(wide, wide, kernel, stride, wide), function(),
            Squeeze(wide, 4, gate), *block(wide, filters, 1),
        )  # fmt: skip
        self.adds = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, its input added where both have one shape."""
        return x + self.body(x) if self.adds else self.body(x)


def mobile_v3() -> nn.Module:
    """Return a small MobileNetV3: hard swish, hard sigmoid gates, its two-part head."""
    return nn.Sequential(
        *block(3, 8, stride=2), nn.Hardswish(),
        Inverted((8, 16, 8), nn.ReLU, F.hardsigmoid),
        Inverted((8, 20, 12), nn.Hardswish, F.hardsigmoid, 5, 2),
        *block(12, 24, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 20), nn.Hardswish(), nn.Dropout(), nn.Linear(20, 5),
    )  # fmt: skip


def efficient() -> nn.Module:
    """Return a small EfficientNet: SiLU and sigmoid gates."""
    return nn.Sequential(
        *block(3, 8, stride=2), nn.SiLU(),
        Inverted((8, 16, 8), nn.SiLU, torch.sigmoid),
        Inverted((8, 20, 12), nn.SiLU, torch.sigmoid, 5, 2),
        *block(12, 24, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip


class Shuffle(nn.Module):
    """A unit of ShuffleNet v2: half of the channels pass, or with a stride both halves are
    computed; then all are shuffled."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.halves, inside = stride == 1, channels // 2 if stride == 1 else channels
        outside = channels // 2 if stride == 1 else channels
        self.main = nn.Sequential(
            *block(inside, outside, 1), nn.ReLU(),
            *block(outside, outside, 3, stride, outside), *block(outside, outside, 1), nn.ReLU(),
        )  # fmt: skip
        self.side = nn.Sequential(
            *block(inside, inside, 3, stride, inside), *block(inside, outside, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the shuffled channels of both branches."""
        first, second = x.chunk(2, 1) if self.halves else (self.side(x), x)
        x = torch.cat([first, self.main(second)], 1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def shuffle_v2() -> nn.Module:
    """Return a small ShuffleNet v2."""
    return nn.Sequential(
        *block(3, 8, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Shuffle(8, 2), Shuffle(16),
        *block(16, 20, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5),
    )  # fmt: skip


class Keywords(nn.Module):
    """A keyword network over a spectrogram's bands: 1-d residual blocks, a gate, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(10, 12, 5, stride=2, padding=2), nn.BatchNorm1d(12)
        self.depth = nn.Conv1d(12, 12, 9, padding=8, dilation=2, groups=12)
        self.point, self.second = nn.Conv1d(12, 12, 1), nn.BatchNorm1d(12)
        self.gate, self.head = nn.Linear(12, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of six words."""
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(x + self.second(self.point(self.depth(x))))
        x = F.max_pool1d(x * torch.sigmoid(self.gate(x.mean(2))).unsqueeze(2), 2)
        return self.head(x.mean(-1))


class SplitAttention(nn.Module):
    """A block of ResNeSt: two splits of channels, summed by shares of their own; and one of
    selective kernels, over two sizes of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.splits, self.reduce = nn.Sequential(*block(3, 16), nn.ReLU()), nn.Conv2d(8, 6, 1)
        self.shares = nn.Conv2d(6, 16, 1)
        self.small, self.large = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 2, 2)
        self.select, self.head = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of three channels."""
        x = self.splits(x)
        b, c, h, w = x.shape
        parts = x.reshape(b, 2, c // 2, h, w)
        shares = F.relu(self.reduce(parts.sum(1).mean((2, 3), keepdim=True)))
        shares = self.shares(shares).view(b, 1, 2, -1).transpose(1, 2).softmax(1)
        x = (parts * shares.reshape(b, 2, c // 2, 1, 1)).sum(1)
        paths = torch.stack([F.relu(self.small(x)), F.relu(self.large(x))], 1)
        chosen = self.select(paths.sum(1).mean((2, 3), keepdim=True)).view(b, 2, c // 2, 1, 1)
        return self.head((paths * chosen.softmax(1)).sum(1))


class Mixer(nn.Module):
    """Rows of patches as tokens behind a class token, whose scores are given."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.rows = nn.Conv2d(3, 6, 2, 2), nn.Linear(6 * 4, 12)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.mix, self.head = nn.Conv1d(12, 12, 3, padding=1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the class token."""
        x = self.rows(self.patch(x).permute(0, 2, 3, 1).flatten(2))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + F.gelu(self.mix(x.transpose(1, 2))).transpose(1, 2)
        return self.head(x[:, 0])


class Competing(nn.Module):
    """Maxima of two branches and of pairs of channels, gated units, and flat maps side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(3, 8, 1)
        self.gated, self.head = nn.Conv2d(8, 12, 3, 2, 1), nn.Linear(28, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return four scores."""
        x = torch.maximum(self.first(x), self.second(x))
        y = F.glu(self.gated(x), 1)
        x = F.avg_pool2d(x, 4).flatten(1)
        pairs = y.view(len(y), 3, 2, *y.shape[2:]).amax(2)
        return self.head(torch.cat([x, F.max_pool2d(pairs, 2).flatten(1), y.mean((2, 3))], 1))


@dataclass(frozen=True)
class Example:
    """A network, and the shapes of a small and a larger input."""

    make: Callable[[], nn.Module]
    small: tuple[int, ...]
    large: tuple[int, ...]


EXAMPLES = {
    "U-Net": Example(UNet, (3, 8, 4), (3, 12, 8)),
    "detector": Example(Detector, (3, 8, 4), (3, 16, 12)),
    "MobileNetV3": Example(mobile_v3, (3, 8, 6), (3, 16, 12)),
    "EfficientNet": Example(efficient, (3, 8, 6), (3, 16, 12)),
    "ShuffleNet v2": Example(shuffle_v2, (3, 12, 8), (3, 24, 16)),
    "keywords": Example(Keywords, (10, 30), (10, 49)),
    "split attention": Example(SplitAttention, (3, 4, 3), (3, 9, 8)),
    "competing branches": Example(Competing, (3, 8, 4), (3, 8, 4)),
    "class token": Example(Mixer, (3, 10, 8), (3, 20, 8)),
}


def check(
    running: Callable[..., nupes.Simulator], name: str, shape: tuple[int, ...], way: tuple[str, str]
) -> None:
    """Take a network the whole way, in a scheme and by a method."""
    run_whole(running, lambda: randomize_norms(EXAMPLES[name].make()), shape, *way)


FAST = "U-Net", "MobileNetV3", "class token"


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES],
)
def test_networks_are_exact_on_the_rtl(running: Callable[..., nupes.Simulator], name: str) -> None:
    check(running, name, EXAMPLES[name].small, ("W8A8", "rtn"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_larger_images(running: Callable[..., nupes.Simulator], name: str) -> None:
    check(running, name, EXAMPLES[name].large, ("W4A4", "search"))
