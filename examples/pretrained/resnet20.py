"""ResNet-20 for CIFAR-10 (He et al., 2015, section 4.2) with option-A shortcuts.

Weights: ``resnet20-12fca82f.th`` of akamaster/pytorch_resnet_cifar10. Input: images in 0..1, RGB,
float32 (b, 3, 32, 32); the normalisation is part of the module.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet20", "load_resnet20"]


class Normalize(nn.Module):
    """Subtract the ImageNet mean and divide by the ImageNet deviation, per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images."""
        return (x - self.mean) / self.std


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; at stride 2 it takes every second pixel and pads
    channels with zeros.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """Three stages of three blocks with 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, 1)
        self.layer2 = self.stage(16, 32, 2)
        self.layer3 = self.stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        """Return three blocks, the first with the stride."""
        blocks = [BasicBlock(inputs, outputs, stride)]
        blocks += [BasicBlock(outputs, outputs, 1) for _ in range(2)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, 10) for images (b, 3, 32, 32) in 0..1."""
        x = F.relu(self.bn1(self.conv1(self.normalize(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def load_resnet20(path: str | os.PathLike[str]) -> ResNet20:
    """Return the network with the published weights of ``resnet20-12fca82f.th``."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    network = ResNet20().eval()
    named = {name.removeprefix("module."): value for name, value in state.items()}
    buffers = {f"normalize.{name}": value for name, value in network.normalize.named_buffers()}
    network.load_state_dict(named | buffers)
    return network
