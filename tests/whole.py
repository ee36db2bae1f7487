"""The whole way of a small module: quantized, compiled and run on the RTL."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

import nupes
from nupes.model.network import IntegerNetwork
from nupes.verify import check_layers, check_outputs
from tests.quantizer.close import images, module_output

__all__ = ["ARRAY", "run_whole"]

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, products=True)

ERROR = {"W8A8": 0.01, "W4A4": 0.3}
"""Part of the output's variance that a scheme may add as error."""


def run_whole(
    running: Callable[..., nupes.Simulator],
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    scheme: str = "W8A8",
    method: str = "rtn",
) -> IntegerNetwork:
    """Return the integer network of a module for inputs of a shape: near the module, and every
    stored value of two inputs the same on the RTL."""
    torch.manual_seed(0)
    module, x = make().eval(), images(32, *shape)
    network = nupes.quantize(module, scheme, x, method=method)
    expected = module_output(module, x)
    found = network(x)
    assert found.shape == expected.shape
    assert np.square(found - expected).mean() < ERROR[scheme] * expected.var()
    program, simulator = nupes.compile(network, ARRAY), running(ARRAY)
    assert check_layers(simulator, program, check_outputs(simulator, program, x[:2]), x[:2]).exact
    return network
