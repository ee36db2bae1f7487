"""Sums of products are one operator, however they are written; what is none stays what it is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nupes.model.operators import Select, SumOfProducts
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.graph import Affine, Constant, Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.test_operators import Call

TOKENS, WIDTH = 7, 6
ANGLES = torch.linspace(-1, 2, TOKENS * WIDTH).reshape(TOKENS, WIDTH)
C, S = ANGLES.cos(), ANGLES.sin()


def linear(outputs: int = WIDTH, inputs: int = WIDTH) -> nn.Linear:
    """Return a layer of tokens."""
    return nn.Linear(inputs, outputs)


def captured(forward: Callable[[Call, Tensor], object], **layers: nn.Module) -> Graph:
    """Return the graph of a module of tokens, whose stages are compared with it."""
    torch.manual_seed(0)
    layers = {name: linear() for name in "abcd"} | layers
    module = Call(forward, **layers).eval()
    program = export_module(module, (2, TOKENS, WIDTH))
    graph = capture(program)
    network = fuse(graph)
    verify_capture(program, graph, network, Batch((torch.randn(2, TOKENS, WIDTH),)))
    return graph


def sums_of(graph: Graph) -> list[SumOfProducts]:
    """Return the sums of products."""
    return [n.op for n in graph.nodes.values() if isinstance(n.op, SumOfProducts)]


def count(graph: Graph, *kinds: str) -> int:
    """Return how many nodes are of these kinds."""
    return sum(type(node.op).__name__ in kinds for node in graph.nodes.values())


EVERY = tuple(range(WIDTH))

FORMS: dict[str, tuple[Callable[[Call, Tensor], Tensor], list[tuple[int, ...]]]] = {
    "rolled": (lambda s, x: x * C + x.roll(2, -1) * S, [EVERY, (4, 5, 0, 1, 2, 3)]),
    "difference": (lambda s, x: x.flip(-1) * C - x * S, [EVERY[::-1], EVERY]),
    "minus": (lambda s, x: -(x * C + x.roll(2, -1) * S), [EVERY, (4, 5, 0, 1, 2, 3)]),
    "times a table": (lambda s, x: (x * C + x.flip(-1) * S) * C, [EVERY, EVERY[::-1]]),
    "three": (
        lambda s, x: x * C + x.flip(-1) * S + x.roll(3, -1) * C * S,
        [EVERY, EVERY[::-1], (3, 4, 5, 0, 1, 2)],
    ),
    "halves": (
        lambda s, x: x * C + torch.cat([-x[..., 3:], x[..., :3]], -1) * S,
        [EVERY, (3, 4, 5, 0, 1, 2)],
    ),
    "concatenated": (
        lambda s, x: torch.cat(
            [
                x[..., :3] * C[:, :3] - x[..., 3:] * S[:, 3:],
                x[..., 3:] * C[:, 3:] + x[..., :3] * S[:, :3],
            ],
            -1,
        ),
        [(0, 1, 2, 3, 4, 5), (3, 4, 5, 0, 1, 2)],
    ),
    "some channels": (
        lambda s, x: torch.cat(
            [x[..., :4] * C[:, :4] + x[..., :4].roll(2, -1) * S[:, :4], x[..., 4:]], -1
        ),
        [(0, 1, 2, 3, 4, 5), (2, 3, 0, 1, 4, 5)],
    ),
}  # fmt: skip
"""How a tensor is rotated, and which of its channels are taken."""


@pytest.mark.parametrize("name", FORMS)
def test_rotations_are_one_operator(name: str) -> None:
    rotate, channels = FORMS[name]
    graph = captured(lambda s, x: s.b(rotate(s, s.a(x))))
    (op,) = sums_of(graph)
    assert list(map(list, op.channels)) == list(map(list, channels))
    assert count(graph, "Product", "Add", "Select", "Concat", "Affine", "Mosaic") == 0
    assert len(fuse(graph).stages) == 3


def test_signs_are_the_tables() -> None:
    graph = captured(lambda s, x: s.b(s.a(x) * C - s.a(x).roll(1, -1) * S))
    held = [node.op.values[:, 0] for node in graph.nodes.values() if isinstance(node.op, Constant)]
    np.testing.assert_allclose(held, [C, -S], atol=1e-6)


def test_tables_are_held_once() -> None:
    def rotate(x: Tensor) -> Tensor:
        return x * C + x.roll(1, -1) * S

    graph = captured(lambda s, x: rotate(s.a(x)) + s.c(rotate(s.b(x))))
    assert [len(op.channels) for op in sums_of(graph)] == [2, 2]
    assert count(graph, "Constant") == 2


PRODUCTS: dict[str, Callable[[Call, Tensor], Tensor]] = {
    "gates": lambda s, x: s.a(x) * s.b(x) + s.c(x) * s.d(x),
    "difference": lambda s, x: s.a(x) * s.b(x) - s.c(x) * s.d(x),
    "a selection": lambda s, x: s.a(x).flip(-1) * s.b(x) + s.c(x) * s.d(x),
    "a gate of a channel": lambda s, x: s.a(x)[..., :1] * s.b(x) + s.c(x) * s.d(x),
    "one gate": lambda s, x: s.a(x).sigmoid() * s.b(x) + (1 - s.a(x).sigmoid()) * s.c(x),
    "a table": lambda s, x: s.a(x) * s.b(x) + s.c(x) * C,
    "different factors": lambda s, x: s.a(x) * C + s.b(x) * S,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_sums_of_products_of_tensors_are_one_operator(name: str) -> None:
    graph = captured(lambda s, x: s.e(PRODUCTS[name](s, x).relu()), e=linear())
    (op,) = sums_of(graph)
    assert len(op.channels) == 2
    assert count(graph, "Product", "Add", "Concat", "Mosaic") == 0


def test_a_sign_is_part_of_a_factor() -> None:
    graph = captured(lambda s, x: s.a(x) * s.b(x) - s.c(x) * s.d(x))
    (minus,) = [node for node in graph.nodes.values() if isinstance(node.op, Affine)]
    assert minus.inputs == ("c",)
    assert [stage.name for stage in fuse(graph).stages if stage.name.startswith("c")] == ["c"]


def test_what_is_read_twice_stays() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        first = s.a(x) * s.b(x)
        return s.e(first + s.c(x) * s.d(x)) + first

    graph = captured(forward, e=linear())
    assert sums_of(graph) == []
    assert count(graph, "Product") == 2


def test_products_with_one_number_for_each_channel_are_none() -> None:
    graph = captured(lambda s, x: s.b(s.a(x) * C[0] + s.a(x).roll(1, -1) * S[0]))
    assert sums_of(graph) == []


def test_sums_that_are_outputs_keep_the_order_of_their_channels() -> None:
    def forward(s: Call, x: Tensor) -> tuple[Tensor, Tensor]:
        y = s.a(x)
        y = y * C + y.roll(1, -1) * S
        return y, s.b(y.flip(-1))

    (op,) = sums_of(captured(forward))
    assert op.channels[0] == EVERY


def test_channels_stand_in_the_order_in_which_they_are_read() -> None:
    def forward(s: Call, x: Tensor) -> tuple[Tensor, Tensor]:
        y = s.a(x)
        y = y * C + y.roll(1, -1) * S
        return s.b(y[..., 1::2]), s.c(y[..., ::2])

    layers = {name: linear(inputs=3) for name in "bc"}
    graph = captured(forward, **layers)
    (op,) = sums_of(graph)
    assert op.channels[0] == (1, 3, 5, 0, 2, 4)
    read = [node.op.first for node in graph.nodes.values() if isinstance(node.op, Select)]
    assert read == [0, 3]


def test_channels_that_are_read_twice_stay_where_they_are() -> None:
    def forward(s: Call, x: Tensor) -> tuple[Tensor, Tensor]:
        y = s.a(x)
        y = y * C + y.roll(1, -1) * S
        return s.b(y[..., :4]), s.c(y[..., 2:])

    layers = {name: linear(inputs=4) for name in "bc"}
    (op,) = sums_of(captured(forward, **layers))
    assert op.channels[0] == EVERY
