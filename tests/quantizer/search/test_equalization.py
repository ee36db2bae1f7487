"""Equalized networks are the same network, with channels that suit their readers better."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.measure.sensitivity import measure_sensitivity
from nupes.quantizer.search.equalization import (
    Classes,
    balance,
    channel_classes,
    equalize,
    measure_channels,
    rescale,
    share,
)
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.operators import Convolution, Matmul
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.networks import many
from tests.quantizer.close import images
from tests.quantizer.test_operators import MODULES, make
from tests.test_attention import Encoder

X = Batch((torch.from_numpy(images(6, 3, 10, 9)),))


def fused(module: nn.Module) -> FusedNetwork:
    """Return a module's stages."""
    return fuse(capture(export_module(module, (2, *X.shapes[0]))))


def output(network: FusedNetwork, x: Batch = X) -> np.ndarray:
    """Return what the network gives in float."""
    maps = network.start(x)
    return run_float(network.stages, maps)[network.stages[-1].name].numpy()


def random_factors(network: FusedNetwork, seed: int) -> dict[str, np.ndarray]:
    """Return factors of all channels that may differ."""
    rng, classes = np.random.default_rng(seed), channel_classes(network)
    numbers = {abs(index) for indices in classes.values() for index in indices.tolist()}
    factors = {index: float(np.exp(rng.uniform(-2, 2))) for index in sorted(numbers)}
    return share(factors, classes)


def four_bits(network: FusedNetwork) -> dict[str, int]:
    """Return 4 bits for every tensor."""
    return dict.fromkeys(network.shapes, 4)


@pytest.mark.parametrize("name", MODULES)
def test_the_float_network_stays_the_same(name: str) -> None:
    network = fused(make(name))
    expected = output(network)
    found = output(equalize(network, X, four_bits(network)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["conv groups", "affine inside", "linear twice"])
@many(20)
@given(st.data())
def test_any_factors_leave_the_network_the_same(name: str, data: st.DataObject) -> None:
    network = fused(make(name))
    scaled = rescale(network, random_factors(network, data.draw(st.integers(0, 2**31))))
    expected = output(network)
    np.testing.assert_allclose(
        output(scaled), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("first", [True, False])
def test_norms_take_any_factors(first: bool) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(6, 5, 6)
    network = fuse(capture(export_module(Encoder(first=first).eval(), (2, 5, 6))))
    x, classes = network.maps(Batch((tokens,))), channel_classes(network)
    scaled = rescale(network, random_factors(network, 0))
    norms = [stage for stage in network.stages if stage.op.gain_scales]
    read = [stage.sources[0] for stage in network.stages if isinstance(stage.op, Convolution)]
    assert all((classes[stage.name] > 0).all() for stage in norms if stage.name in read)
    np.testing.assert_allclose(output(scaled, x), output(network, x), rtol=1e-3, atol=1e-4)
    bits = dict.fromkeys(network.shapes, 8)
    assert set(measure_channels(network, x, bits)) == {stage.name for stage in norms}


def test_queries_and_keys_have_inverse_factors() -> None:
    network = fuse(capture(export_module(Encoder().eval(), (2, 5, 6))))
    classes = channel_classes(network)
    for stage in network.stages:
        if isinstance(stage.op, Matmul):
            queries, keys = (classes[name] for name in stage.sources)
            assert queries.all()
            np.testing.assert_array_equal(keys, -queries)


def test_what_is_multiplied_by_itself_has_the_factor_1() -> None:
    classes = Classes(7)
    classes.join(np.array([1, 2]), np.array([3, 4]), sign=-1)
    classes.join(np.array([3]), np.array([5]), sign=-1)
    assert classes.of(np.arange(7)).tolist() == [0, 1, 2, -1, -2, 1, 6]
    classes.join(np.array([5]), np.array([3]))
    assert classes.of(np.arange(7)).tolist() == [0, 0, 2, 0, -2, 0, 6]
    assert share({2: 4.0}, {"x": np.array([2, -2, 0, 6])})["x"].tolist() == [4, 0.25, 1, 1]


def cost(network: FusedNetwork, name: str) -> float:
    """Return what an error that grows with a tensor costs its readers."""
    exact = run_float(network.stages, network.start(X))
    power = exact[name].square().mean((0, 2, 3)).numpy()
    return float(power.sum() * measure_sensitivity(network, X).of_channels(name).sum())


def uneven() -> nn.Sequential:
    """Return a chain whose channels differ in magnitude."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    first = module[0]
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight *= torch.logspace(-1, 1, 8).reshape(-1, 1, 1, 1)
    return module


def test_readers_pay_less() -> None:
    network = fused(uneven())
    name = network.stages[0].name
    better = equalize(network, X, four_bits(network))
    assert cost(better, name) < 0.5 * cost(network, name)


def test_whole_factors_leave_nothing_to_do() -> None:
    network = fused(uneven())
    name, classes = network.stages[0].name, channel_classes(network)

    def balanced(start: FusedNetwork) -> FusedNetwork:
        tensors = measure_channels(start, X, four_bits(start))
        return rescale(start, balance(tensors, classes, 1.0))

    better = balanced(network)
    assert cost(balanced(better), name) == pytest.approx(cost(better, name), rel=1e-3)


@pytest.mark.parametrize("inputs", ["one image", "others disagree"])
def test_factors_need_images_that_agree(inputs: str) -> None:
    network = fused(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval())
    x = torch.from_numpy(images(1 if inputs == "one image" else 8, 3, 10, 9))
    if inputs == "others disagree":
        # The first channel is large where factors are fitted, and small where they are judged.
        x[:, 0] *= torch.tensor([30.0, 30, 30, 0.03] * 2).reshape(-1, 1, 1)
        x[:, 1] *= torch.tensor([0.03, 0.03, 0.03, 30] * 2).reshape(-1, 1, 1)
    same = equalize(network, Batch((x,)), four_bits(network))
    for before, after in zip(network.stages, same.stages, strict=True):
        np.testing.assert_array_equal(before.bias, after.bias)


def test_tensors_of_eight_bits_stay() -> None:
    network = fused(uneven())
    same = equalize(network, X, dict.fromkeys(four_bits(network), 8))
    for before, after in zip(network.stages, same.stages, strict=True):
        np.testing.assert_array_equal(before.bias, after.bias)
