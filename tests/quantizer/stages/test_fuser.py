"""Fusing and folding change no value: stages evaluated in float equal the module."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images, module_output
from tests.quantizer.test_operators import MODULES, Call, conv, make


def evaluate(network: FusedNetwork, x: np.ndarray) -> np.ndarray:
    """Return the float output of a fused network."""
    maps = network.start(Batch((torch.from_numpy(x),)))
    output = run_float(network.stages, maps)[network.stages[-1].name]
    return output.reshape(len(x), *network.outputs[0][1]).numpy()


@pytest.mark.parametrize("name", MODULES)
def test_stages_equal_the_module(name: str) -> None:
    module, x = make(name), images(3, 3, 10, 9)
    network = fuse(capture(export_module(module, x.shape)))
    np.testing.assert_allclose(evaluate(network, x), module_output(module, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_bounds_hold(name: str) -> None:
    module, x = make(name), images(8, 3, 10, 9, low=-3, high=3)
    network = fuse(capture(export_module(module, x.shape)))
    assert evaluate(network, x).min() >= network.stages[-1].low


def test_the_bound_of_a_sum_over_a_window_counts_its_taps() -> None:
    """A sum of values above -0.3 may lie far below it; coded without a sign it would be wrong."""
    module = Call(
        lambda s, x: (
            F.avg_pool2d(F.silu(s.a(x)), 2, divisor_override=1)
            + F.avg_pool2d(s.b(x).clamp(0.35, 0.5), 2)
        ),
        a=conv(),
        b=conv(),
    )
    with torch.no_grad():
        for part, bias in ((module.a, -1.28), (module.b, 0.0)):
            part.weight.zero_()
            part.bias.fill_(bias)
    x = images(4, 3, 10, 9)
    network = fuse(capture(export_module(module, x.shape)))
    found = evaluate(network, x)
    assert found.max() < -0.7
    assert found.min() >= network.stages[-1].low


def stages_of(module: torch.nn.Module) -> list[str]:
    """Return the names of a module's stages."""
    return [stage.name for stage in fuse(capture(export_module(module, (2, 3, 10, 9)))).stages]


def test_an_affine_of_the_input_costs_no_stage() -> None:
    assert stages_of(make("affine channel")) == ["a"]
    assert stages_of(make("affine negative")) == ["rsub", "a"]


def test_batch_norms_cost_no_stage() -> None:
    assert stages_of(make("batch norm")) == ["0", "3"]
    assert stages_of(make("batch norm alone")) == ["0", "2", "3"]


def test_padding_that_its_readers_do_not_do() -> None:
    relu = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.ReLU())
    assert stages_of(relu) == ["1", "output"]
    pools = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.MaxPool2d(2))
    assert stages_of(pools) == ["0", "1", "output"]


def test_a_convolution_gives_its_channels_in_the_order_in_which_they_are_read() -> None:
    conv, shuffle = torch.nn.Conv2d(3, 6, 1), torch.nn.ChannelShuffle(3)
    parts = conv, torch.nn.BatchNorm2d(6).eval(), torch.nn.ReLU(), shuffle
    assert stages_of(torch.nn.Sequential(*parts, torch.nn.MaxPool2d(2))) == ["0", "4", "output"]
    # A convolution of all channels takes them in any order, one in groups does not.
    pool, dense = torch.nn.MaxPool2d(2), torch.nn.Conv2d(6, 4, 1)
    assert stages_of(torch.nn.Sequential(conv, pool, shuffle, dense)) == ["0", "1", "3"]
    grouped = torch.nn.Conv2d(6, 4, 1, groups=2)
    assert stages_of(torch.nn.Sequential(conv, pool, shuffle, grouped)) == ["0", "1", "2", "3"]
