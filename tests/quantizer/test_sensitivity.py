"""Sensitivities against measured errors."""

import numpy as np
import pytest
import torch
from torch import nn

from nupes.quantizer import sensitivity
from nupes.quantizer.capture import capture, export_module
from nupes.quantizer.forward import run_float
from nupes.quantizer.fuse import FusedNetwork, fuse
from nupes.quantizer.sensitivity import channel_sensitivity, sample_maps
from tests.quantizer.close import images
from tests.quantizer.test_operators import MODULES, make

X = torch.from_numpy(images(64, 3, 10, 9))


def fused(module: nn.Module) -> FusedNetwork:
    """Return a module's stages."""
    return fuse(capture(export_module(module, (2, 3, 10, 9))))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_errors_cost_what_it_says(groups: int) -> None:
    torch.manual_seed(0)
    network = fused(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 12, 3, groups=groups)).eval())
    middle, last = network.stages
    maps = sample_maps(network, X)
    expected = channel_sensitivity(network, maps)[middle.name]
    power = float(maps[last.name].var())
    generator = torch.Generator().manual_seed(0)
    for channel in range(6):
        real = maps[middle.name].clone()
        real[:, channel] += 0.1 * torch.randn(real[:, channel].shape, generator=generator)
        error = run_float([last], {middle.name: real})[last.name] - maps[last.name]
        found = float(error.square().mean((0, 2, 3)).sum()) / 0.01 / power
        assert found == pytest.approx(expected[channel], rel=0.1)


@pytest.mark.parametrize("name", MODULES)
def test_every_channel_has_one(name: str) -> None:
    network = fused(make(name))
    maps = sample_maps(network, X)
    found = channel_sensitivity(network, maps)
    assert set(found) == set(maps)
    for tensor, values in found.items():
        assert values.shape == (maps[tensor].shape[1],)
        assert np.isfinite(values).all()
        assert (values > 0).all()


def test_a_sample_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fused(make("conv"))
    size = 3 * 10 * 9 + sum(int(np.prod(stage.shape)) for stage in network.stages)
    monkeypatch.setattr(sensitivity, "VALUES", 5 * size)
    assert len(sample_maps(network, X)[network.input.name]) == 5
    monkeypatch.setattr(sensitivity, "VALUES", 1)
    assert len(sample_maps(network, X)[network.input.name]) == 1


def test_a_sample_is_spread_over_the_inputs() -> None:
    network = fused(make("conv"))
    inputs = torch.arange(1000.0).reshape(-1, 1, 1, 1).expand(-1, 3, 10, 9)
    sample = sample_maps(network, inputs)[network.input.name]
    assert len(sample) == 256
    assert float(sample[0].max()) == 0
    assert float(sample[-1].max()) == 999
