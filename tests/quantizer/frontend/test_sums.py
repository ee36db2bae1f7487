"""Sums with constants are one sum."""

import numpy as np
import torch
from torch import Tensor

from nupes.quantizer.frontend.graph import Add, Constant, Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.test_operators import Call, conv

FIRST, SECOND = torch.linspace(0, 1, 56).reshape(8, 7), torch.linspace(2, -3, 56).reshape(8, 7)


def graph_of(module: Call) -> Graph:
    """Return the captured graph."""
    return capture(export_module(module.eval(), (2, 3, 10, 9)))


def constants(graph: Graph) -> list[np.ndarray]:
    """Return what the network holds."""
    return [node.op.values for node in graph.nodes.values() if isinstance(node.op, Constant)]


def test_constants_that_are_added_one_after_the_other_are_one() -> None:
    graph = graph_of(Call(lambda s, x: FIRST + s.a(x) + SECOND, a=conv()))
    (held,) = constants(graph)
    np.testing.assert_allclose(held[:, :, 0], FIRST + SECOND, atol=1e-6)
    assert sum(isinstance(node.op, Add) for node in graph.nodes.values()) == 1


def test_a_sum_that_is_read_stays() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        y = s.a(x) + FIRST
        return y.relu() + (y + SECOND).sigmoid()

    assert len(constants(graph_of(Call(forward, a=conv())))) == 2
