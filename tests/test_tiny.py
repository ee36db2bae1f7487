"""The whole flow on a two-layer network, in seconds: PyTorch to RTL through the public API."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nupes
from nupes.verify import check_layers, check_outputs
from tests.small import ARRAY


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """Return a strided convolution and a linear layer with seeded weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4)
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return images (8, 2, 5, 5) float32."""
    return np.random.default_rng(0).normal(size=(8, 2, 5, 5)).astype(np.float32)


@pytest.mark.parametrize("scheme", ["W4A4", "W2A3", "W8A8"])
def test_two_layers_through_the_whole_flow(
    scheme: str,
    module: nn.Module,
    images: np.ndarray,
    tmp_path: Path,
    running: Callable[..., nupes.Simulator],
) -> None:
    qnet = nupes.quantize(module, scheme, calibration=images, method="search")
    logits = qnet(images)
    assert logits.shape == (8, 4)

    loaded = nupes.load(qnet.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(loaded(images), logits)

    program = nupes.compile(loaded, ARRAY)
    assert program.cycles == sum(layer.cycles for layer in program.layers)

    hw = running(ARRAY)
    result = hw.run(program, images)
    np.testing.assert_array_equal(result.outputs, logits)
    assert result.cycles == [program.cycles] * 8
    assert result.layer_cycles.tolist() == [[layer.cycles for layer in program.layers]] * 8

    check = check_layers(hw, program, check_outputs(hw, program, images), images)
    assert check.exact
    assert check.exact_layers == 2


def test_eight_bits_come_close_to_the_float_network(module: nn.Module, images: np.ndarray) -> None:
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    logits = nupes.quantize(module, "W8A8", calibration=images, method="search")(images)
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


def test_verilog_of_the_array() -> None:
    assert "module nupes_accelerator" in nupes.verilog(ARRAY)
