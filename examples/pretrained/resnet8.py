"""ResNet-8 of the MLPerf Tiny image classification benchmark (mlcommons/tiny).

Weights: ``resnet8_float.npz`` with Keras names. Input: images in 0..255, RGB, float32 (b, 3, 32,
32).
"""

import os

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.examples.pretrained.keras import SameConv, copy_batch_norm

__all__ = ["ResNet8", "load_resnet8"]


class ResNet8(nn.Module):
    """Three stages of one block with 16, 32 and 64 channels; 1x1 convolutions on the stride-2
    shortcuts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = SameConv(3, 16, (3, 3), (32, 32))
        self.conv_1 = SameConv(16, 16, (3, 3), (32, 32))
        self.conv_2 = SameConv(16, 16, (3, 3), (32, 32), relu=False)
        self.conv_3 = SameConv(16, 32, (3, 3), (32, 32), stride=2)
        self.conv_4 = SameConv(32, 32, (3, 3), (16, 16), relu=False)
        self.conv_5 = SameConv(16, 32, (1, 1), (32, 32), stride=2, norm=False, relu=False)
        self.conv_6 = SameConv(32, 64, (3, 3), (16, 16), stride=2)
        self.conv_7 = SameConv(64, 64, (3, 3), (8, 8), relu=False)
        self.conv_8 = SameConv(32, 64, (1, 1), (16, 16), stride=2, norm=False, relu=False)
        self.pool = nn.AvgPool2d(8)
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, 10) for images (b, 3, 32, 32) in 0..255; the softmax is left out."""
        x = self.conv(x)
        x = F.relu(x + self.conv_2(self.conv_1(x)))
        x = F.relu(self.conv_5(x) + self.conv_4(self.conv_3(x)))
        x = F.relu(self.conv_8(x) + self.conv_7(self.conv_6(x)))
        return self.dense(torch.flatten(self.pool(x), 1))


def load_resnet8(path: str | os.PathLike[str]) -> ResNet8:
    """Return the network with the weights of ``resnet8_float.npz``."""
    with np.load(path) as archive:
        tensors = {name: archive[name] for name in archive.files}
    network = ResNet8().eval()
    norms = 0
    for index in range(9):
        suffix = f"_{index}" if index else ""
        layer = getattr(network, f"conv{suffix}")
        layer.load(tensors[f"conv2d{suffix}.kernel"], tensors[f"conv2d{suffix}.bias"])
        if isinstance(layer.norm, nn.BatchNorm2d):
            name = f"batch_normalization_{norms}" if norms else "batch_normalization"
            copy_batch_norm(layer.norm, tensors, name)
            norms += 1
    network.dense.weight.data = torch.from_numpy(tensors["dense.kernel"].T.copy())
    network.dense.bias.data = torch.from_numpy(tensors["dense.bias"].copy())
    return network
