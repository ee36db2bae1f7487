"""Sensitivities against measured errors."""

import numpy as np
import pytest
import torch
from torch import nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.measure import sensitivity
from nupes.quantizer.measure.sensitivity import measure_importance, measure_sensitivity
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import Observed, evaluate, run_float
from nupes.quantizer.stages.stage import FusedNetwork, weighted
from tests.quantizer.close import images
from tests.quantizer.test_operators import MODULES, make

X = Batch((torch.from_numpy(images(64, 3, 10, 9)),))


def fused(module: nn.Module) -> FusedNetwork:
    """Return a module's stages."""
    return fuse(capture(export_module(module, (2, 3, 10, 9))))


@pytest.mark.parametrize("where", ["stored", "before"])
def test_errors_cost_what_it_says(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "DRAWS", 32)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3)
    )
    network = fused(module.eval())
    middle, *later = network.stages
    found = measure_sensitivity(network, X)
    name, last = middle.name, network.stages[-1].name
    hooks = Observed()
    inputs = network.start(X[found.images])
    exact = evaluate(network.stages, inputs, hooks)
    weights = getattr(found, where)[name]
    count = len(weights)
    generator = torch.Generator().manual_seed(0)
    power = float(exact[last].var())
    for channel in range(6):
        error = torch.zeros_like(weights)
        error[:, channel] = 1e-3 * torch.randn(error[:, channel].shape, generator=generator)
        if where == "stored":
            moved = exact[name][:count] + error
        else:
            moved = (hooks.before[name][:count] + error).relu()
        outputs = run_float(later, {name: moved})[last] - exact[last][:count]
        expected = float((error.square() * weights).sum()) / count
        assert float(outputs.square().mean()) / power == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", MODULES)
def test_every_value_has_one(name: str) -> None:
    network = fused(make(name))
    exact = run_float(network.stages, network.start(X))
    found = measure_sensitivity(network, X)
    assert set(found.stored) == set(exact)
    assert set(found.before) == {stage.name for stage in network.stages}
    assert len(found.first) == sensitivity.PART
    for tensor, values in found.stored.items():
        assert values.shape == exact[tensor].shape
        assert (values >= 0).all()
        channels = found.of_channels(tensor)
        assert channels.shape == (values.shape[1],)
        assert np.isfinite(channels).all()
        assert (channels > 0).all()


def test_a_sample_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fused(make("conv"))
    size = 3 * 10 * 9 + sum(int(np.prod(stage.shape)) for stage in network.stages)
    monkeypatch.setattr(sensitivity, "VALUES", 5 * size)
    assert len(measure_sensitivity(network, X).images) == 5
    monkeypatch.setattr(sensitivity, "VALUES", 1)
    assert len(measure_sensitivity(network, X).images) == 1


def test_few_images_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    # With one output no sign changes a square.
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 1, (8, 7)))
    network = fused(module.eval())
    whole, parts = measure_sensitivity(network, X), measure_importance(network, X)
    monkeypatch.setattr(sensitivity, "AT_ONCE", 5 * sensitivity.values_of(network))
    found = measure_sensitivity(network, X)
    assert torch.equal(found.images, whole.images)
    pairs = [(found.stored, whole.stored), (found.before, whole.before)]
    for one, other in [*pairs, (measure_importance(network, X), parts)]:
        assert one.keys() == other.keys()
        for name, values in one.items():
            torch.testing.assert_close(values, other[name])


@pytest.mark.parametrize("count", [1, 31, 33, 100, 1000])
def test_every_part_of_a_sample_is_spread_over_the_inputs(count: int) -> None:
    network = fused(make("conv"))
    found = measure_sensitivity(network, X[torch.zeros(count, dtype=torch.long)])
    numbers = found.images.tolist()
    assert len(set(numbers)) == len(numbers) == min(count, sensitivity.IMAGES)
    assert sorted(numbers)[0] == 0
    assert sorted(numbers)[-1] == count - 1
    first = found.first.tolist()
    assert first == sorted(first)
    assert np.ptp([0, *first, count - 1]) - np.ptp(first) <= count / len(first)


def test_importance_is_the_mean_squared_gradient_of_a_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sensitivity, "FEW_DRAWS", 400)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, groups=1), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 3, 3)
    )
    network = fused(module.eval())
    found = measure_importance(network, X)
    assert set(found) == {stage.name for stage in network.stages}
    middle, last = network.stages[1:]
    before = run_float(network.stages[:2], network.start(X))
    y = before[middle.name][:1]

    def rest(values: torch.Tensor) -> torch.Tensor:
        return run_float([last], {middle.name: values})[last.name]

    gradients = torch.autograd.functional.jacobian(rest, y).flatten(0, 3).squeeze(1)
    expected = gradients.square().sum(0).unflatten(0, (2, 3)).mean(1)
    torch.testing.assert_close(found[middle.name][0], expected, rtol=0.2, atol=0)


@pytest.mark.parametrize("name", MODULES)
def test_every_convolution_has_an_importance(name: str) -> None:
    network = fused(make(name))
    found = measure_importance(network, X[:5])
    operators = weighted(network.stages)
    assert set(found) == set(operators)
    for stage, values in found.items():
        height, width, _ = network.shapes[stage]
        assert values.shape == (5, operators[stage].groups, height, width)
        assert (values >= 0).all()
