"""Your own network in 30 lines: ``python -m examples.own_network``. No data is needed."""

import numpy as np
import torch
from torch import nn

import nupes


class MyNetwork(nn.Module):
    """Any module with one image input; train it first, or load a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(4)
        )
        self.classify = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (b, 10) for images (b, 3, 16, 16)."""
        return self.classify(torch.flatten(self.features(x), 1))


if __name__ == "__main__":
    torch.manual_seed(0)
    images = np.random.default_rng(0).uniform(-1, 1, (8, 3, 16, 16)).astype(np.float32)
    network = nupes.quantize(MyNetwork(), "W4A4", calibration=images)
    program = nupes.compile(network, nupes.ArrayConfig(8, 8))
    network.save("my_network.safetensors")
    print(network, program, *program.layers, sep="\n")
