"""How near a skeleton is to the network that quantization gives."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import nupes
from nupes.model.errors import UnsupportedError
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.inspection import inspect_module
from nupes.quantizer.lowering.skeleton import bare_network
from tests.quantizer.close import images
from tests.quantizer.test_operators import conv

ARRAY = nupes.ArrayConfig(8, 8)


def test_skeleton_costs_what_the_network_does() -> None:
    """Cycles differ only by how many decode tables coincide."""
    scheme = "W3A5"
    torch.manual_seed(1)
    module = nn.Sequential(
        conv(8, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        conv(8, 8, groups=4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        conv(6, 8, stride=2),
        nn.SiLU(),
        nn.AvgPool2d((1, 1)),
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    module(torch.zeros(1, 3, 10, 9))
    network = inspect_module(module, (3, 10, 9)).network
    assert network is not None
    real = nupes.quantize(module, scheme, images(4, 3, 10, 9))
    predicted = nupes.compile(bare_network(network, scheme, {}), ARRAY)
    exact = nupes.compile(real, ARRAY)
    assert [layer.name for layer in predicted.layers] == [layer.name for layer in exact.layers]
    assert [layer.macs for layer in predicted.layers] == [layer.macs for layer in exact.layers]
    assert predicted.cycles == pytest.approx(exact.cycles, rel=0.02)


def test_skeleton_refuses_a_function_of_many_turns() -> None:
    module = nn.Sequential(conv(), nn.Hardswish(), conv(2, 6))
    network = inspect_module(module, (3, 10, 9)).network
    assert network is not None
    twisted = replace(
        network.stages[0], function=Function("wave", lambda x: torch.sin(20 * x), -1, 1)
    )
    wavy = replace(network, stages=(twisted, *network.stages[1:]))
    with pytest.raises(UnsupportedError, match="layer '0': function 'wave' must need at most 511"):
        bare_network(wavy, "W4A4", {})
