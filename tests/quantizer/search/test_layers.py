"""The search: what its corrections promise."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nupes.quantizer.codes.decisions import Choices
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.measure.sensitivity import measure_importance
from nupes.quantizer.options.bits import plan_bits
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.options.scheme import parse_scheme
from nupes.quantizer.search.layers import LayerSearch, choose
from nupes.quantizer.search.moments import LEAST, weigh_outputs
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import Maps, run_float, run_quantized
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images

X = Batch((torch.from_numpy(images(40, 3, 8, 8, low=0.0)),))


def fused() -> FusedNetwork:
    """Return three layers without a function."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 4, 3))
    return fuse(capture(export_module(module.eval(), (2, *X.shapes[0]))))


def errors(network: FusedNetwork, correct: bool) -> tuple[Maps, Maps]:
    """Return what the layers of a network give in float, and the errors of the quantized ones."""
    recipe = replace(METHODS["search"], correct_bias=correct, equalize=False)
    plan = plan_bits(network, parse_scheme("W2A3"), None, None, None, {})
    choices = choose(network, X, plan, recipe)
    inputs = network.start(X)
    exact = run_float(network.stages, inputs)
    found = run_quantized(network.stages, choices, inputs)
    names = [stage.name for stage in network.stages]
    return {n: exact[n] for n in names}, {n: found[n] - exact[n] for n in names}


def largest_mean(values: Tensor, weight: Tensor) -> float:
    """Return the largest weighted mean of a channel."""
    return float(((values * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3))).abs().max())


def test_corrected_biases_leave_hardly_any_mean_error_where_outputs_count() -> None:
    network = fused()
    exact, error = errors(network, correct=True)
    _, plain = errors(network, correct=False)
    for name, importance in measure_importance(network, X).items():
        groups = importance.shape[1]
        weight = weigh_outputs(importance).repeat_interleave(error[name].shape[1] // groups, 1)
        assert error[name].std() > 0.01 * exact[name].std()
        assert largest_mean(plain[name], weight) > 1e-3
        assert largest_mean(error[name], weight) < 0.2 * largest_mean(plain[name], weight)


def test_errors_that_do_not_count_move_no_bias() -> None:
    """Outputs that the network does not use may be clipped far off: where they tell the mean error,
    it spoils the others."""
    network = fused()
    plan = plan_bits(network, parse_scheme("W8A8"), None, None, None, {})
    search = LayerSearch(network, X, plan, METHODS["search"], Choices(), False, None)
    stage = network.stages[1]
    count, (height, width, channels) = len(X), stage.shape
    unused = torch.zeros(count, 2, height, width)
    unused[:, :, ::2] = 1.0
    search.importance[stage.name] = 1 - unused
    error = torch.full((count, channels, height, width), 0.25)
    error += 100 * unused.repeat_interleave(channels // 2, 1)
    share = LEAST / (2 + LEAST)  # Used outputs weigh 2, as their mean is 1.
    np.testing.assert_allclose(search.mean_error(stage, error), 0.25 + 100 * share, rtol=1e-4)
