"""What stages give: the module's own values in float, and the integer network's when quantized."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.lowering.layers import lower
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.layers import choose
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import in_chunks, measure_reach, run_float, run_quantized
from tests.quantizer.close import images, module_output, randomize_norms


@pytest.fixture(scope="module")
def part() -> nn.Module:
    """Return a network with a batch norm, a pool and a head."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    return randomize_norms(nn.Sequential(*layers, nn.Flatten(), nn.Linear(96, 5)).eval())


def test_float_stages_are_the_module(part: nn.Module) -> None:
    network, x = fuse(capture(export_module(part, (2, 3, 8, 8)))), images(4, 3, 8, 8)
    maps = network.start(Batch((torch.from_numpy(x),)))
    found = run_float(network.stages, maps)[network.stages[-1].name].flatten(1).numpy()
    np.testing.assert_allclose(found, module_output(part, x), atol=1e-4)


def test_quantized_stages_are_near_the_integer_network(part: nn.Module) -> None:
    network, x = fuse(capture(export_module(part, (2, 3, 8, 8)))), images(150, 3, 8, 8)
    inputs = Batch((torch.from_numpy(x),))
    plan = plan_bits(network, parse_scheme("W8A8"), None, 8, 8, {})
    choices = measure_reach(network, inputs, choose(network, inputs, plan, METHODS["rtn"]))
    maps, last = network.start(inputs), network.stages[-1].name

    run = partial(run_quantized, network.stages, choices)
    found = in_chunks(run, maps, [last])[last].flatten(1).numpy()
    expected = lower(network, choices, {})(x).reshape(found.shape)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_reach_is_the_largest_value_seen(part: nn.Module) -> None:
    network, inputs = fuse(capture(export_module(part, (2, 3, 8, 8)))), images(20, 3, 8, 8)
    plan = plan_bits(network, parse_scheme("W8A8"), None, 8, 8, {})
    few, more = (Batch((torch.from_numpy(x),)) for x in (inputs[:10], inputs * 2))
    start = choose(network, few, plan, METHODS["rtn"])
    wider = measure_reach(network, more, start)
    for name, reach in start.reach.items():
        assert wider.reach[name] >= reach
    assert any(wider.reach[name] > reach for name, reach in start.reach.items())
