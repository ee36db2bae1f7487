"""The whole way of a small module: quantized, compiled and run on the RTL."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

import nupes
from nupes.model.network import IntegerNetwork
from nupes.quantizer.data.calibration import check_shapes
from nupes.verify import check_layers, check_outputs
from tests.quantizer.close import images, module_output

__all__ = ["ARRAY", "run_whole"]

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, products=True)

ERROR = {"W8A8": 0.01, "W4A4": 0.3}
"""Part of the output's variance that a scheme may add as error."""


def run_whole(
    running: Callable[..., nupes.Simulator],
    make: Callable[[], nn.Module],
    shapes: tuple[int, ...] | Sequence[tuple[int, ...]],
    scheme: str = "W8A8",
    method: str = "rtn",
) -> IntegerNetwork:
    """Return the integer network of a module for inputs of these shapes, or of one: near the
    module, and every stored value of two samples the same on the RTL."""
    torch.manual_seed(0)
    module = make().eval()
    x = tuple(images(32, *shape, seed=seed) for seed, shape in enumerate(check_shapes(shapes)))
    first, *others = x
    network = nupes.quantize(module, scheme, x if others else first, method=method)
    expected = module_output(module, *x)
    found = network(*x)
    assert found.shape == expected.shape
    assert np.square(found - expected).mean() < ERROR[scheme] * expected.var()
    program, simulator = nupes.compile(network, ARRAY), running(ARRAY)
    few = tuple(part[:2] for part in x)
    assert check_layers(simulator, program, check_outputs(simulator, program, few), few).exact
    return network
