"""Bounds of nodes, against random values of their operators."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nupes.model.errors import UnsupportedError
from nupes.model.operators import AveragePool, MaxPool, Select
from nupes.quantizer.frontend.bounds import EVERYTHING, bounds_of
from nupes.quantizer.frontend.graph import Add, Affine, Concat, Node, Op, Pad, Pool, Product
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.close import images, quantize_and_compare
from tests.quantizer.test_operators import Call, conv

ENDS = st.tuples(st.floats(-3, 3), st.floats(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def bounds(op: Op, *sources: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds of an operator's results."""
    return bounds_of(Node("node", op, ("source",) * len(sources), (1, 1, 2)), *sources)


@given(ENDS, ENDS, st.floats(0, 1), st.floats(0, 1))
def test_results_lie_within(
    a: tuple[float, float], b: tuple[float, float], first: float, second: float
) -> None:
    x, y = a[0] + first * (a[1] - a[0]), b[0] + second * (b[1] - b[0])
    affine = Affine(np.array([-2.0, 0.5]), np.array([1.0, 0.0]))
    pool = Pool(AveragePool((1, 2), (1, 2), (0, 0, 1, 0)), 0.5)
    for value, op, sources in (
        (x + y, Add(), (a, b)),
        (x * y, Product(), (a, b)),
        (y, Concat(), (a, b)),
        (1 - 2 * x, affine, (a,)),
        (x / 2, affine, (a,)),
        (x, MaxPool((2, 2), (2, 2)), (a,)),
        (x, pool, (a,)),
        (x / 2, pool, (a,)),
        (x, Select(3), (a,)),
        (0.0, Select(3), (a,)),
        (0.0, Pad((1, 0, 0, 0)), (a,)),
    ):
        low, high = bounds(op, *sources)
        assert low - 1e-9 <= value <= high + 1e-9


def test_what_has_no_bounds() -> None:
    positive = (0.0, np.inf)
    assert bounds(Product(), positive, positive) == positive
    assert bounds(Product(), (0.0, 0.0), EVERYTHING) == (0.0, 0.0)
    assert bounds(MaxPool((1, 1), (1, 1)), EVERYTHING) == EVERYTHING
    assert bounds(Add(), positive, (-1.0, 1.0)) == (-1.0, np.inf)


def root(s: nn.Module, x: Tensor) -> Tensor:
    """The root of a tensor that something else reads, too."""
    positive = torch.relu(s.a(x))  # type: ignore[operator]
    return s.b(torch.sqrt(positive)) + s.c(positive)  # type: ignore[operator]


def test_functions_of_values_that_are_bounded_need_no_others() -> None:
    module = Call(root, a=conv(), b=conv(4, 6), c=conv(4, 6))
    _, ratio = quantize_and_compare(module.eval(), images(64, 3, 10, 9))
    assert ratio > 30
    network = fuse(capture(export_module(module, (2, 3, 10, 9))))
    assert [stage.function.name for stage in network.stages if "sqrt" in stage.function.name] == [
        "sqrt(clamp(0.0, inf))"
    ]


def test_functions_without_values_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="'log' must have a value everywhere, not none"):
        capture(export_module(Call(lambda s, x: torch.log(s.a(x)), a=conv()), (2, 3, 10, 9)))
    bounded = Call(lambda s, x: torch.log(nn.functional.hardtanh(s.a(x)) - 3), a=conv())
    with pytest.raises(UnsupportedError, match="must have a value everywhere, not none"):
        capture(export_module(bounded, (2, 3, 10, 9)))
