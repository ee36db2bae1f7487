"""In-place operators: replaced where nothing else sees the change, left to PyTorch elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from nupes.quantizer.frontend.mutation import is_mutable, replace_in_place
from nupes.quantizer.frontend.program import export_module, prepare
from tests.quantizer.test_operators import Call, conv


def export(function: Callable[[Call, Tensor], Tensor]) -> fx.Graph:
    """Return the graph of a function with the convolutions ``a`` and ``b``."""
    module = Call(function, a=conv(), b=conv(), n=nn.BatchNorm2d(6))
    return export_module(module, (2, 3, 10, 9)).graph


def twice(s: Call, x: Tensor) -> Tensor:
    """Change a tensor that is read before and after."""
    y = s.a(x)
    z = torch.sigmoid(y)
    y.add_(s.b(x))
    y.relu_()
    return y + z


def earlier(s: Call, x: Tensor) -> Tensor:
    """Change a tensor of which there is a view."""
    y = s.a(x)
    z = y.view(2, -1)
    y.relu_()
    return z


SIMPLE: dict[str, Callable[[Call, Tensor], Tensor]] = {
    "relu": lambda s, x: torch.relu_(s.n(s.a(x))),
    "sum": lambda s, x: s.a(x).add_(s.b(x), alpha=2),
    "twice": twice,
    "itself": lambda s, x: (lambda y: y.mul_(y))(s.a(x)),
    "dropout": lambda s, x: nn.functional.dropout(s.a(x), 0.5, False, inplace=True),
    "dropout of a view": lambda s, x: nn.functional.dropout(s.a(x).view(2, -1), 0.5, False, True),
}

ENTANGLED: dict[str, Callable[[Call, Tensor], Tensor]] = {
    "input": lambda s, x: s.a(x.relu_()),
    "view": lambda s, x: (lambda y: y.view(2, -1).relu_() + y.view(2, -1))(s.a(x)),
    "earlier view": earlier,
    "part": lambda s, x: (lambda y: (y[:, :2].zero_(), y)[1])(s.a(x)),
    "copy": lambda s, x: s.a(x).copy_(s.b(x)),
    "behind dropout": lambda s, x: (
        lambda y: nn.functional.dropout(y, 0.5, False, True).relu_() + y
    )(s.a(x)),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_a_change_that_nothing_else_sees_is_replaced(name: str) -> None:
    graph = export(SIMPLE[name])
    before = str(graph)
    found = replace_in_place(graph)
    assert found is not None
    assert found is not graph
    assert not any(map(is_mutable, found.nodes))
    assert str(graph) == before


@pytest.mark.parametrize("name", ENTANGLED)
def test_other_changes_are_left_to_pytorch(name: str) -> None:
    assert replace_in_place(export(ENTANGLED[name])) is None


def test_a_graph_without_changes_is_itself() -> None:
    graph = export(lambda s, x: torch.relu(s.a(x)))
    assert replace_in_place(graph) is graph


@pytest.mark.parametrize("name", [*SIMPLE, *(name for name in ENTANGLED if name != "input")])
def test_the_values_stay(name: str) -> None:
    torch.manual_seed(0)
    function = {**SIMPLE, **ENTANGLED}[name]
    module = Call(function, a=conv(), b=conv(), n=nn.BatchNorm2d(6)).eval()
    program = prepare(export_module(module, (2, 3, 10, 9)))
    values: dict[fx.Node, object] = dict(program.constants)
    x = torch.randn(2, 3, 10, 9)
    for node in program.graph.nodes:
        if node in program.inputs:
            values[node] = x
        elif node.op == "call_function" and callable(node.target):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)
    torch.testing.assert_close(values[program.outputs[0]], module(x))
