"""ESPCN and FSRCNN for twice the size: luma in 0..1, float32 (b, 1, h, w) to (b, 1, 2h, 2w).

Weights: ``espcn_x2.npz`` and ``fsrcnn_x2.npz``, in TensorFlow's layout (kernels h, w, in, out).
Both end in a pixel shuffle: ESPCN behind a tanh, FSRCNN behind a 1x1 convolution where its authors
have a transposed one.
"""

import os

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Espcn", "Fsrcnn", "load_espcn", "load_fsrcnn"]


class Espcn(nn.Module):
    """Three convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([
            nn.Conv2d(1, 64, 5, padding=2),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Conv2d(32, 4, 3, padding=1),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger images."""
        first, second, last = self.convs
        x = torch.tanh(last(torch.relu(second(torch.relu(first(x))))))
        return nn.functional.pixel_shuffle(x, 2)


class Fsrcnn(nn.Module):
    """Features, fewer of them, four maps of these, more again; PReLU between, slopes by channel."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, 56, 5), (56, 12, 1), *[(12, 12, 3)] * 4, (12, 56, 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
            for channels, filters, kernel in sizes
        )
        self.slopes = nn.ModuleList(nn.PReLU(filters) for _, filters, _ in sizes)
        self.last = nn.Conv2d(56, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger images."""
        for conv, slope in zip(self.convs, self.slopes, strict=True):
            x = slope(conv(x))
        return nn.functional.pixel_shuffle(self.last(x), 2)


def load_espcn(path: str | os.PathLike[str]) -> Espcn:
    """Return the network with the weights of ``espcn_x2.npz``."""
    network = Espcn().eval()
    with np.load(path) as archive:
        for index, conv in enumerate(network.convs, 1):
            copy(conv, archive[f"f{index}"], archive[f"b{index}"])
    return network


def load_fsrcnn(path: str | os.PathLike[str]) -> Fsrcnn:
    """Return the network with the weights of ``fsrcnn_x2.npz``."""
    network = Fsrcnn().eval()
    with np.load(path) as archive:
        for index, (conv, slope) in enumerate(zip(network.convs, network.slopes, strict=True), 1):
            copy(conv, archive[f"f{index}"], archive[f"b{index}"])
            slope.weight.data = torch.from_numpy(archive[f"alpha{index}"].copy())
        copy(network.last, archive["f8"], archive["b8"])
    return network


def copy(conv: nn.Module, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Give a convolution a kernel (h, w, in, out) and a bias, which may be one for all channels."""
    conv.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    conv.bias.data = torch.from_numpy(np.broadcast_to(bias, kernel.shape[3:]).copy())
