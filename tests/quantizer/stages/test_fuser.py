"""Fusing and folding change no value: stages evaluated in float equal the module."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.program import capture, export_module
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images, module_output
from tests.quantizer.test_operators import MODULES, Call, conv, make


def evaluate(network: FusedNetwork, x: np.ndarray) -> np.ndarray:
    """Return the float output of a fused network."""
    maps = {network.input.name: network.scale_input(torch.from_numpy(x))}
    output = run_float(network.stages, maps)[network.stages[-1].name]
    return output.reshape(len(x), *network.output_shape).numpy()


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


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.ReLU()),
            "zero padding '0' must be read by a convolution or a pool alone",
        ),
        (
            torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.MaxPool2d(2)),
            "zero padding before max-pool '1' must be of values that are never negative",
        ),
    ],
)
def test_padding_that_cannot_be_folded(module: torch.nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        stages_of(module)
