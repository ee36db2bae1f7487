"""How close an integer network is to the module that it came from, and a codebook to values."""

import numpy as np
import torch
from torch import nn

from nupes.model.codebook import Codebook
from nupes.model.network import IntegerNetwork
from nupes.quantizer import quantize

__all__ = [
    "images",
    "module_output",
    "quantize_and_compare",
    "randomize_norms",
    "rounding_error",
    "signal_to_noise",
]


def images(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return uniform random float32 images (b, c, h, w)."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def randomize_norms(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm statistics and parameters that matter; return the module in
    evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            size = part.num_features
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
            part.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            with torch.no_grad():
                part.weight.copy_(torch.randn(size, generator=generator))
                part.bias.copy_(torch.randn(size, generator=generator) * 0.5)
    return module.eval()


def module_output(module: nn.Module, *x: np.ndarray) -> np.ndarray:
    """Return the module's output for images, an array for each input."""
    with torch.no_grad():
        return module.eval()(*map(torch.from_numpy, x)).numpy()


def signal_to_noise(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the signal-to-noise ratio in decibels."""
    signal, noise = (float(np.square(x).mean()) for x in (expected, expected - found))
    return 10 * np.log10(max(signal, 1e-300) / max(noise, 1e-300))


def quantize_and_compare(
    module: nn.Module, x: np.ndarray, scheme: str = "W8A8", **options: object
) -> tuple[IntegerNetwork, float]:
    """Return the integer network calibrated on half of the images and its signal-to-noise ratio on
    the other half. The search alone chooses, unless a method is given."""
    half = len(x) // 2
    network = quantize(module, scheme, x[:half], **{"method": "search", **options})  # type: ignore[arg-type]
    expected, found = module_output(module, x[half:]), network(x[half:])
    assert found.shape == expected.shape
    return network, signal_to_noise(expected, found)


def rounding_error(values: np.ndarray, codebook: Codebook, scale: float) -> float:
    """Return the mean squared error of the non-zero values."""
    values = values[values != 0]
    return float(
        np.square(values - scale * codebook.levels[codebook.nearest(values / scale)]).mean()
    )
