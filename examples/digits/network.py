"""The digits example: a small residual convolutional network for 8x8 handwritten digits, and its
data.

The images are the UCI handwritten digits that scikit-learn carries (1,797 of them, 8x8, 17 grey
levels).
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

__all__ = ["CHECKPOINT", "DigitsNet", "load_network", "load_split"]

CHECKPOINT = Path(__file__).with_name("digits.safetensors")
"""The trained parameters; ``train.py`` writes them."""

SPLIT = {"train": 1097, "calibration": 200, "test": 500}
"""Number of images for each use."""


class DigitsNet(nn.Module):
    """A stem, a residual block that halves the map, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.classify = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (b, 10) for images (b, 1, 8, 8) with values from 0 to 1."""
        x = self.relu(self.stem_norm(self.stem(x)))
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)) + x)
        return self.classify(torch.flatten(self.pool(x), 1))


def load_network() -> DigitsNet:
    """Return the trained network in evaluation mode."""
    network = DigitsNet()
    network.load_state_dict(load_file(CHECKPOINT))
    return network.eval()


def load_split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images (n, 1, 8, 8) float32 from 0 to 1 and labels (n,) of ``train``, ``calibration``
    and ``test``."""
    pixels, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    images = (pixels[order].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    labels = targets[order].astype(np.int64)
    parts, start = {}, 0
    for name, count in SPLIT.items():
        parts[name] = (images[start : start + count], labels[start : start + count])
        start += count
    return parts
