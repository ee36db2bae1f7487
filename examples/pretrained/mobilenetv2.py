"""MobileNetV2 for ImageNet (Sandler et al., 2018, table 2), with the names of torchvision.

Weights: ``mobilenet_v2-b0353104.pth`` of torchvision. Input: images in 0..1, RGB, float32
(b, 3, 224, 224); the normalisation is part of the module.
"""

import os

import torch
from torch import Tensor, nn

from nupes.examples.pretrained.resnet20 import Normalize

__all__ = ["MobileNetV2", "load_mobilenetv2"]

BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks and stride of the first of them."""


def convolve(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
    """Return a convolution that keeps the map's size but for its stride, its norm and its
    function."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    ]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        parts = [nn.Sequential(*convolve(inputs, wide, 1))] if expansion > 1 else []
        parts += [nn.Sequential(*convolve(wide, wide, 3, stride, groups=wide))]
        self.conv = nn.Sequential(*parts, *convolve(wide, outputs, 1)[:2])
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """A convolution, 17 inverted residual blocks, a 1x1 convolution and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        features: list[nn.Module] = [nn.Sequential(*convolve(3, 32, 3, 2))]
        inputs = 32
        for expansion, outputs, count, stride in BLOCKS:
            for index in range(count):
                first = stride if index == 0 else 1
                features.append(InvertedResidual(inputs, outputs, first, expansion))
                inputs = outputs
        features.append(nn.Sequential(*convolve(inputs, 1280, 1)))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, 1000) for images (b, 3, 224, 224) in 0..1."""
        return self.classifier(self.features(self.normalize(x)).mean((2, 3)))


def load_mobilenetv2(path: str | os.PathLike[str]) -> MobileNetV2:
    """Return the network with the published weights of ``mobilenet_v2-b0353104.pth``."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = MobileNetV2().eval()
    buffers = {f"normalize.{name}": value for name, value in network.normalize.named_buffers()}
    network.load_state_dict(state | buffers)
    return network
