"""Bounds of a graph's operators, against the operators."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nupes.model.operators import AveragePool
from nupes.quantizer.frontend.graph import Affine, Graph, Input, Node, Pool
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.close import images, quantize_and_compare
from tests.quantizer.test_operators import Call, conv


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("low", [-0.3, 0.0, 0.5])
@pytest.mark.parametrize("divisor", [1, 4, 9])
def test_the_bound_of_a_pool_holds(padding: int, low: float, divisor: int) -> None:
    x = low + torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(0)) / 1000
    found = F.avg_pool2d(x, 2, 2, padding, divisor_override=divisor)
    op = AveragePool((2, 2), (2, 2), (padding,) * 4)
    bound = Pool(op, 1 / divisor).bound(low)
    assert float(found.min()) >= bound - 1e-6
    assert padding or float(found.min()) <= bound + 0.01


def test_sums_of_negative_values_stay_signed() -> None:
    """A clamp behind a sum that goes far below its source's bound must see the whole sum."""
    module = Call(
        lambda s, x: F.avg_pool2d(F.avg_pool2d(F.silu(s.a(x)), 2, 1, divisor_override=1), 2, 1),
        a=conv(),
    )
    network = fuse(capture(export_module(module, (2, 3, 10, 9))))
    assert network.stages[1].low == pytest.approx(-4 * 0.2784645)
    _, ratio = quantize_and_compare(module, images(64, 3, 10, 9))
    assert ratio > 30


def test_pruning_keeps_the_input() -> None:
    ones = Affine(np.ones(2), np.ones(2))
    nodes = {
        "input": Node("input", Input(), (), (1, 1, 2)),
        "dead": Node("dead", ones, ("input",), (1, 1, 2)),
        "live": Node("live", ones, ("input",), (1, 1, 2)),
    }
    graph = Graph(nodes, outputs=[("live", (2,))])
    graph.prune()
    assert list(graph.nodes) == ["input", "live"]
    assert graph.consumers() == {"input": 1, "live": 1}


def test_affines_know_whether_channels_differ() -> None:
    assert Affine(np.ones(3), np.zeros(3)).is_uniform
    assert not Affine(np.array([1.0, 2.0]), np.zeros(2)).is_uniform


def test_dead_branches_are_not_looked_at() -> None:
    def forward(s: Call, x: torch.Tensor) -> torch.Tensor:
        values, indices = F.max_pool2d(s.a(x), 2, return_indices=True)
        torch.fft.fft(values), indices + 1
        return values

    graph = capture(export_module(Call(forward, a=conv()), (2, 3, 10, 9)))
    assert list(graph.nodes) == ["input", "a", "max_pool2d"]
