"""The whole way of a small module: quantized, compiled, run on the RTL and exported."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import nupes
from nupes.model.host import as_maps
from nupes.model.network import IntegerNetwork
from nupes.verify import check_layers, check_outputs
from tests.export.test_onnx import check_ends
from tests.quantizer.close import images

__all__ = ["ARRAY", "run_whole"]

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, products=True)

ERROR = {"W8A8": 0.01, "W4A4": 0.3}
"""Part of an output's variance that a scheme may add as error."""


def run_whole(
    running: Callable[..., nupes.Simulator],
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    scheme: str = "W8A8",
    method: str = "rtn",
) -> IntegerNetwork:
    """Return the integer network of a module for inputs of a shape: near the module, and every
    stored value and output of two inputs the same on the RTL and in ONNX Runtime."""
    torch.manual_seed(0)
    module, x = make().eval(), images(32, *shape)
    network = nupes.quantize(module, scheme, x, method=method)
    with torch.no_grad():
        expected = tree_leaves(module(torch.from_numpy(x)))
    for wanted, found in zip(expected, tree_leaves(network(x)), strict=True):
        assert found.shape == wanted.shape
        assert np.square(found - wanted.numpy()).mean() < ERROR[scheme] * float(wanted.var())
    program, simulator = nupes.compile(network, ARRAY), running(ARRAY)
    assert check_layers(simulator, program, check_outputs(simulator, program, x[:2]), x[:2]).exact
    check_ends(network, [as_maps(x[:2], network.the_input.tensor.shape)])
    return network
