"""The cycles of the published networks, to the cycle.

They depend on shapes and bits, not on weights: random ones give those of ``benchmarks.cycles``.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import nupes
from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.examples.pretrained.dscnn import DSCNN
from nupes.examples.pretrained.resnet8 import ResNet8
from nupes.examples.pretrained.resnet20 import ResNet20

SIZES = (8, 16, 32)

CIFAR, KEYWORDS = (3, 32, 32), (1, 49, 10)

Case = tuple[type[nn.Module], tuple[int, int, int], int | None]
"""A network, the shape of its input, and the bits of its first and last layer (None: those of the
others)."""

CYCLES: dict[Case, tuple[int, ...]] = {
    (ResNet8, CIFAR, 8): (201_374, 51_310, 29_803),
    (ResNet8, CIFAR, None): (201_199, 51_143, 29_744),
    (ResNet20, CIFAR, 8): (641_182, 161_646, 85_342),
    (ResNet20, CIFAR, None): (641_007, 161_479, 85_283),
    (DSCNN, KEYWORDS, 8): (52_169, 17_297, 7_068),
    (DSCNN, KEYWORDS, None): (52_016, 17_208, 6_657),
}
"""Cycles on each of the square arrays of ``SIZES``."""


def integer_network(
    module: Callable[[], nn.Module], shape: tuple[int, int, int], ends: int | None
) -> nupes.IntegerNetwork:
    """Return a network with random weights, quantized to W4A4 as ``benchmarks.cycles`` does."""
    torch.manual_seed(0)
    network = module().eval()
    images = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    return nupes.quantize(
        network,
        "W4A4",
        calibration=images,
        method="rtn",
        ends=ends,
        input_bits=8,
        residual_bits=8,
    )


def check(case: Case, sizes: tuple[int, ...]) -> None:
    """Compile a network for arrays of some sizes."""
    network = integer_network(*case)
    found = [compile(network, ArrayConfig(size, size)).cycles for size in sizes]
    assert found == [CYCLES[case][SIZES.index(size)] for size in sizes]


def test_cycles_stay() -> None:
    check((DSCNN, KEYWORDS, 8), (16,))


@pytest.mark.slow
@pytest.mark.parametrize("case", CYCLES, ids=lambda case: f"{case[0].__name__}-{case[2]}")
def test_all_cycles_stay(case: Case) -> None:
    check(case, SIZES)
