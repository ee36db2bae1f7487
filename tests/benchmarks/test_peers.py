"""Codes of other methods have the values of their papers, and folds change no float result."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers.codes import ADALOG_STEPS, PERCENTILES, AdaLog, LogSqrt2, Uniform, percentiles
from benchmarks.peers.repq import QuantizedLinear, QuantizedViT, quantize_repq
from nupes.examples.pretrained.vit import Shape, ViT

TINY = Shape(8, 4, 1, 8, 2, 2, 4, 12, 3, activation=nn.ReLU, biases=False)


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_percentiles_are_those_of_torch() -> None:
    x = values(50, 40)
    for found, share in zip(percentiles(x, PERCENTILES), PERCENTILES, strict=True):
        torch.testing.assert_close(found, torch.quantile(x.flatten(), share))


@pytest.mark.parametrize("axis", [None, 1])
def test_uniform_codes_are_equidistant(axis: int | None) -> None:
    x = values(400, 3) * torch.tensor([1.0, 4.0, 9.0])
    codes = Uniform(3, axis)
    found = codes(x)
    for channel in range(3):
        some = found if axis is None else found[:, channel]
        levels = some.unique()
        assert len(levels) <= 8
        gaps = levels.diff()
        torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps).contiguous())
    torch.testing.assert_close(codes(x), found)  # once found, ranges stay
    if axis is not None:
        assert (found - x).square().mean() < 0.1 * x.var()


def test_powers_of_the_square_root_of_two() -> None:
    codes = LogSqrt2(4)
    codes.largest = torch.tensor(0.8)
    x = torch.tensor([0.8, 0.8 / 2**0.5, 0.4, 0.8 * 2**-7.5, 0.8 * 2**-7.8, 0.0, 1.0])
    expected = torch.tensor([0.8, 0.8 / 2**0.5, 0.4, 0.8 * 2**-7.5, 0.0, 0.0, 0.8])
    torch.testing.assert_close(codes(x), expected)


def test_bases_of_adalog() -> None:
    codes = AdaLog(4)
    torch.testing.assert_close(codes.table(ADALOG_STEPS), torch.exp2(-torch.arange(16.0)))
    for base in (10, 20, 50):
        wanted = torch.exp2(-torch.arange(16) * base / ADALOG_STEPS)
        assert ((codes.table(base) / wanted - 1).abs() < 1 / 30).all()  # one of 30 steps, of 1/2..1
    x = torch.tensor([1.0, 0.5, 0.25, 2.0**-15, 2.0**-16, 0.0])
    torch.testing.assert_close(codes.coded(x, ADALOG_STEPS), torch.tensor([*x[:4], 0.0, 0.0]))


def test_adalog_takes_the_base_that_errs_least() -> None:
    weights = (values(4, 2, 5, 5) * 3).softmax(-1)
    others = values(4, 2, 5, 3, seed=1)
    codes = AdaLog(3)
    found = codes(weights, others, weights @ others)
    errors = [
        float((codes.coded(weights, base) @ others - weights @ others).square().mean())
        for base in range(10, 139)
    ]
    assert codes.base is not None
    assert codes.base == 10 + int(np.argmin(errors))
    torch.testing.assert_close(found, codes.coded(weights, codes.base))


@torch.no_grad()
def test_folds_change_no_float_result() -> None:
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(6), nn.Linear(6, 4)
    norm.weight.copy_(torch.rand(6) * 5 + 0.1)
    norm.bias.copy_(torch.randn(6))
    x = values(8, 5, 6)
    expected, layer = linear(norm(x)), QuantizedLinear(linear, 8, 8, True)
    layer(norm(x))
    moved = copy.deepcopy(norm)
    layer.fold(moved)
    assert layer.bias is not None
    torch.testing.assert_close(moved(x) @ layer.weight.T + layer.bias, expected)
    assert layer.inputs.step is not None
    assert layer.inputs.step.ndim == 0
    # The one range of the folded input was that of each channel: nothing is clipped by far.
    assert (layer.inputs(moved(x)) - moved(x)).abs().max() <= 1.01 * layer.inputs.step


@pytest.mark.parametrize("adalog", [False, True])
def test_eight_bits_are_near_float(adalog: bool) -> None:
    torch.manual_seed(0)
    module = ViT(TINY).eval()
    images = np.random.default_rng(0).random((24, 1, 8, 8), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    before = copy.deepcopy(module.state_dict())
    errors = [
        np.square(quantize_repq(module, bits, bits, images, 8, adalog)(images) - expected).mean()
        for bits in (8, 3)
    ]
    assert errors[0] < 0.01 * expected.var()
    assert errors[0] < 0.1 * errors[1]
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_other_ends() -> None:
    network = QuantizedViT(ViT(TINY).eval(), 4, 4, 8, False)
    assert network.pixels.last == network.patches.last == network.head.inputs.last == 255
    assert network.blocks[0].first.inputs.last == 15
