"""The search: what its corrections promise."""

from dataclasses import replace

import torch
from torch import nn

from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.layers import choose
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import Maps, run_float, run_quantized
from tests.quantizer.close import images

X = torch.from_numpy(images(40, 3, 8, 8, low=0.0))


def errors(correct: bool) -> tuple[Maps, Maps]:
    """Return what three layers without a function give in float, and the errors of the quantized
    ones."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 4, 3))
    network = fuse(capture(export_module(module.eval(), (2, *X.shape[1:]))))
    recipe = replace(METHODS["search"], correct_bias=correct, equalize=False)
    plan = plan_bits(network, parse_scheme("W2A3"), None, None, None, {})
    choices = choose(network, X, plan, recipe)
    inputs = {network.input.name: network.scale_input(X)}
    exact = run_float(network.stages, inputs)
    found = run_quantized(network.stages, choices, inputs)
    names = [stage.name for stage in network.stages]
    return {n: exact[n] for n in names}, {n: found[n] - exact[n] for n in names}


def test_corrected_biases_leave_no_mean_error_in_any_channel() -> None:
    exact, error = errors(correct=True)
    for name, values in error.items():
        mean = values.mean((0, 2, 3))
        assert values.std() > 0.01 * exact[name].std()
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=2e-6)


def test_without_the_correction_means_are_off() -> None:
    _, error = errors(correct=False)
    for values in error.values():
        assert values.mean((0, 2, 3)).abs().max() > 1e-3
