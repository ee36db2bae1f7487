"""Turning points and bounds of functions, against what is known of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nupes.quantizer.frontend.extremes import find_extremes
from nupes.quantizer.frontend.functions import Function

INF = np.inf

KNOWN: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int, float, float]] = {
    "identity": (lambda x: x, 0, -INF, INF),
    "constant": (lambda x: 0 * x + 2, 0, 2, 2),
    "relu": (torch.relu, 0, 0, INF),
    "relu6": (F.relu6, 0, 0, 6),
    "leaky relu": (F.leaky_relu, 0, -INF, INF),
    "sigmoid": (torch.sigmoid, 0, 0, 1),
    "tanh": (torch.tanh, 0, -1, 1),
    "silu": (F.silu, 1, -0.2784645, INF),
    "gelu": (F.gelu, 1, -0.1699712, INF),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), 1, -0.1700407, INF),
    "mish": (F.mish, 1, -0.3088434, INF),
    "hardswish": (F.hardswish, 1, -0.375, INF),
    "elu": (F.elu, 0, -1, INF),
    "selu": (F.selu, 0, -1.7580993, INF),
    "softplus": (F.softplus, 0, 0, INF),
    "softsign": (F.softsign, 0, -1, 1),
    "log sigmoid": (F.logsigmoid, 0, -INF, 0),
    "hardshrink": (F.hardshrink, 0, -INF, INF),
    "softshrink": (F.softshrink, 0, -INF, INF),
    "tanhshrink": (F.tanhshrink, 0, -INF, INF),
    "square": (torch.square, 1, 0, INF),
    "shifted square": (lambda x: (x + 0.1234567) ** 2 - 1, 1, -1, INF),
    "abs": (torch.abs, 1, 0, INF),
    "exp": (torch.exp, 0, 0, INF),
    "bell": (lambda x: torch.exp(-x * x), 1, 0, 1),
    "floor": (torch.floor, 0, -INF, INF),
    "sign": (torch.sign, 0, -1, 1),
    "abs of silu": (lambda x: F.silu(x).abs(), 2, 0, INF),
    "cubic": (lambda x: x**3 - x, 2, -INF, INF),
    "sine": (torch.sin, 2607, -1, 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_extremes_of_known_functions(name: str) -> None:
    function, turns, low, high = KNOWN[name]
    found = find_extremes(Function(name, function))
    assert found.hole is None
    assert min(found.turns, 4) == min(turns, 4)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=2e-6)
    # A bound of zero decides whether a tensor has a sign.
    assert (found.low < 0) == (low < 0)


@pytest.mark.parametrize("function", [torch.log, torch.sqrt, torch.asin])
def test_holes_are_found(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = find_extremes(Function("partial", function))
    assert found.hole is not None
    assert found.hole < 0
