"""The whole way of a small module: quantized, compiled, run on the RTL and exported."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import nupes
from nupes.model.host import as_maps
from nupes.model.network import IntegerNetwork
from nupes.quantizer.data.calibration import check_shapes
from nupes.verify import check_layers, check_outputs
from tests.export.test_onnx import check_ends
from tests.quantizer.close import images

__all__ = ["ARRAY", "check_exact", "run_whole"]

ARRAY = nupes.ArrayConfig(4, 4, acc_depth=16, products=True)

ERROR = {"W8A8": 0.01, "W4A4": 0.3}
"""Part of an output's variance that a scheme may add as error."""


def run_whole(
    running: Callable[..., nupes.Simulator],
    make: Callable[[], nn.Module],
    shapes: tuple[int, ...] | Sequence[tuple[int, ...]],
    scheme: str = "W8A8",
    method: str = "rtn",
) -> IntegerNetwork:
    """Return the integer network of a module for inputs of these shapes, or of one: near the
    module, and every stored value and output of two samples the same on the RTL and in ONNX
    Runtime."""
    torch.manual_seed(0)
    module = make().eval()
    x = tuple(images(32, *shape, seed=seed) for seed, shape in enumerate(check_shapes(shapes)))
    first, *others = x
    network = nupes.quantize(module, scheme, x if others else first, method=method)
    with torch.no_grad():
        expected = tree_leaves(module(*map(torch.from_numpy, x)))
    for wanted, found in zip(expected, tree_leaves(network(*x)), strict=True):
        assert found.shape == wanted.shape
        assert np.square(found - wanted.numpy()).mean() < ERROR[scheme] * float(wanted.var())
    check_exact(running, network, x, ARRAY)
    return network


def check_exact(
    running: Callable[..., nupes.Simulator],
    network: IntegerNetwork,
    x: Sequence[np.ndarray],
    array: nupes.ArrayConfig,
) -> None:
    """Compare every stored value and output of two samples on the RTL, and in ONNX Runtime."""
    program, simulator = nupes.compile(network, array), running(array)
    few = tuple(part[:2] for part in x)
    assert check_layers(simulator, program, check_outputs(simulator, program, few), few).exact
    stored = [item.tensor.shape for item in network.inputs]
    check_ends(network, [as_maps(*pair) for pair in zip(few, stored, strict=True)])
