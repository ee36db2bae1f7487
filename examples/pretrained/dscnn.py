"""DS-CNN of the MLPerf Tiny keyword spotting benchmark (mlcommons/tiny).

Weights: ``dscnn_float.npz``. Input: MFCC features, float32 (b, 1, 49, 10).
"""

import os

import numpy as np
import torch
from torch import Tensor, nn

from nupes.examples.pretrained.keras import SameConv, copy_batch_norm

__all__ = ["DSCNN", "load_dscnn"]

SIZE = (25, 5)
"""Rows and columns of every map after the first layer."""


class DSCNN(nn.Module):
    """One 10x4 convolution of stride 2, four depthwise-separable pairs, an average pool, twelve
    words.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = [SameConv(1, 64, (10, 4), (49, 10), stride=2)]
        for _ in range(4):
            layers.append(SameConv(64, 64, (3, 3), SIZE, groups=64))
            layers.append(SameConv(64, 64, (1, 1), SIZE))
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AvgPool2d(SIZE)
        self.dense = nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, 12) for features (b, 1, 49, 10)."""
        return self.dense(torch.flatten(self.pool(self.layers(x)), 1))


def load_dscnn(path: str | os.PathLike[str]) -> DSCNN:
    """Return the network with the weights of ``dscnn_float.npz``."""
    with np.load(path) as archive:
        tensors = {name: archive[name] for name in archive.files}
    network = DSCNN().eval()
    for index, layer in enumerate(network.layers):
        assert isinstance(layer, SameConv)
        name = f"L{2 * index}"
        kernel = "depthwise_kernel" if layer.conv.groups > 1 else "kernel"
        layer.load(tensors[f"{name}.{kernel}"], tensors[f"{name}.bias"])
        copy_batch_norm(layer.norm, tensors, f"L{2 * index + 1}")
    network.dense.weight.data = torch.from_numpy(tensors["L18.kernel"].T.copy())
    network.dense.bias.data = torch.from_numpy(tensors["L18.bias"].copy())
    return network
