"""Pairs of sums of products: what shares a code is as large as each other, or shares none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import nupes
from nupes.model.operators import SumOfProducts
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.search.pairs import excess, settle_pairs
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float
from nupes.quantizer.stages.stage import FusedNetwork
from tests.quantizer.close import images
from tests.quantizer.test_operators import Call
from tests.whole import run_whole

REACHES = st.lists(st.tuples(*[st.floats(0, 1e6)] * 2), min_size=1, max_size=5)


@given(REACHES)
def test_no_error_is_less_than_the_least(reaches: list[tuple[float, float]]) -> None:
    assert excess(reaches) >= 1 - 1e-9


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(1, 5))
def test_equal_pairs_lose_nothing(factor: float, whole: float, count: int) -> None:
    assert excess([(factor, whole)] * count) == pytest.approx(1)


def gated(first: float, second: float, third: float, fourth: float) -> nn.Module:
    """Return a module that adds two products of maps, so many times as large as each other."""

    def forward(s: Call, x: Tensor) -> Tensor:
        return s.e((first * s.a(x) * (second * s.b(x)) - third * s.c(x) * (fourth * s.d(x))).relu())

    torch.manual_seed(0)
    layers = {name: nn.Conv2d(3, 6, 1) for name in "abcd"}
    return Call(forward, **layers, e=nn.Conv2d(6, 2, 1)).eval()


def settled(module: nn.Module) -> tuple[FusedNetwork, FusedNetwork]:
    """Return the stages of a module before and behind, which give the same."""
    batch = Batch((torch.from_numpy(images(8, 3, 5, 4)),))
    network = fuse(capture(export_module(module, (2, 3, 5, 4))))
    found = settle_pairs(network, batch)
    before, behind = (run_float(n.stages, n.start(batch))["e"] for n in (network, found))
    torch.testing.assert_close(behind, before)
    return network, found


def kinds(network: FusedNetwork) -> list[str]:
    """Return the kinds of stages that are no convolutions."""
    found = [type(stage.op).__name__ for stage in network.stages]
    return [kind for kind in found if kind != "Convolution"]


SIZES: dict[str, tuple[tuple[float, float, float, float], list[str]]] = {
    "alike": ((1, 1, 1, 1), ["SumOfProducts"]),
    "one smaller": ((1, 1, 1, 1e-3), ["SumOfProducts"]),
    "one product larger": ((1, 1, 50, 50), ["SumOfProducts"]),
    "turned": ((1, 100, 100, 1), ["SumOfProducts"]),
    "neither": ((100, 100, 1e4, 1), ["SumOfProducts", "SumOfProducts", "Select"]),
}


@pytest.mark.parametrize("name", SIZES)
def test_pairs_are_turned_or_taken_apart(name: str) -> None:
    sizes, expected = SIZES[name]
    before, behind = settled(gated(*sizes))
    assert kinds(before) == ["SumOfProducts"]
    assert kinds(behind) == expected


def test_networks_without_sums_are_left_alone() -> None:
    network, found = settled(Call(lambda s, x: s.e(x), e=nn.Conv2d(3, 2, 1)).eval())
    assert found is network


def test_three_products_are_added_up_one_after_the_other() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        y = 100 * s.a(x) * (100 * s.b(x)) + 1e4 * s.c(x) * s.d(x) + s.f(x) * (1e4 * s.a(x))
        return s.e(y.sigmoid())

    layers = {name: nn.Conv2d(3, 6, 1) for name in "abcdf"}
    _, found = settled(Call(forward, **layers, e=nn.Conv2d(6, 2, 1)).eval())
    assert kinds(found) == ["SumOfProducts"] * 3 + ["Select"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["turned", "neither"])
def test_whole_networks_of_unlike_products(
    running: Callable[..., nupes.Simulator], name: str
) -> None:
    network = run_whole(running, lambda: gated(*SIZES[name][0]), (3, 5, 4))
    sums = [layer.op for layer in network.layers if isinstance(layer.op, SumOfProducts)]
    assert len(sums) == SIZES[name][1].count("SumOfProducts")
    x = images(32, 3, 5, 4)
    with torch.no_grad():
        expected = gated(*SIZES[name][0])(torch.from_numpy(x)).numpy()
    assert np.square(network(x) - expected).mean() < 0.004 * expected.var()
