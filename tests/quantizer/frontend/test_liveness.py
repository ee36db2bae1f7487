"""Rows that nothing reads are not made; the values of others stay."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.network import Output
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.graph import Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.run import run_float
from tests.quantizer.test_operators import Call, conv

X = torch.linspace(-1, 1, 2 * 7 * 6).reshape(2, 7, 6)


def taken(module: nn.Module, x: Tensor = X) -> Graph:
    """Return the graph of a module, which gives what the module gives."""
    torch.manual_seed(0)
    exported = export_module(module.eval(), x.shape)
    graph = capture(exported)
    network = fuse(graph)
    verify_capture(exported, graph, network, Batch((x,)))
    found = run_float(network.stages, network.start(network.maps(Batch((x,)))))
    with torch.no_grad():
        wanted = module(x)
    (name, _), *_ = network.outputs
    output = Output(name, tuple(wanted.shape[1:]))
    result = output.arrange(found[name].numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(result, wanted.numpy(), atol=1e-5)
    return graph


def heights(graph: Graph) -> dict[str, int]:
    """Return the rows of each node that is called after a module."""
    return {name: node.shape[0] for name, node in graph.nodes.items() if name != "input"}


def blocks(x: Tensor, s: nn.Module) -> Tensor:
    """Return attention of one head, and a layer on each token, both added."""
    y = s.n(x)
    x = x + s.o(F.scaled_dot_product_attention(s.q(y), s.k(y), s.v(y)))
    return x + s.b(s.a(s.m(x)).relu())


PARTS = {
    **{name: lambda: nn.Linear(8, 8) for name in "qkvoab"},
    **{name: lambda: nn.LayerNorm(8) for name in "nm"},
    "e": lambda: nn.Linear(6, 8),
}


def parts() -> dict[str, nn.Module]:
    """Return the parts of a block, and a layer before it."""
    return {name: make() for name, make in PARTS.items()}


def test_the_last_block_is_of_the_tokens_that_are_read() -> None:
    module = Call(lambda s, x: blocks(s.e(x), s)[:, 2:4], **parts())
    found = heights(taken(module))
    assert {name for name in found if found[name] == 7} == {"e", "n", "n.affine", "k", "v"} & {
        *found
    }
    assert {found[name] for name in ("q", "o", "a", "b", "m")} == {2}


def test_rows_between_those_that_are_read_are_made() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        y = s.a(s.e(x))
        return s.b(y[:, 1]) + s.o(y[:, 4])

    found = heights(taken(Call(forward, **parts())))
    assert {name: found[name] for name in "eabo"} == {"e": 4, "a": 4, "b": 1, "o": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda s, x: s.b(F.avg_pool1d(s.a(s.e(x)).mT, 3, 1, 1).mT)[:, 0],
        lambda s, x: torch.cat([s.a(s.e(x)), torch.ones(2, 1, 8)], 1)[:, :2],
    ],
)
def test_what_makes_rows_of_others_stays_whole(
    change: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    found = heights(taken(Call(change, **parts())))
    assert found["e"] == 7


def test_tokens_in_another_order_are_some_rows() -> None:
    found = heights(taken(Call(lambda s, x: s.a(s.e(x).flip(1))[:, 0], **parts())))
    assert found["e"] == 1


def test_a_network_that_reads_everything_stays_as_it_is() -> None:
    graph = taken(Call(lambda s, x: blocks(s.e(x), s), **parts()))
    assert not graph.cuts


def test_no_layer_becomes_two() -> None:
    module = Call(lambda s, x: s.b(s.a(x).relu()[:, :, 3:5]), a=conv(), b=conv(2, 6, 1))
    graph = taken(module, torch.randn(2, 3, 10, 9))
    assert heights(graph)["relu"] == 8
    assert len(fuse(graph).stages) == 3  # one reads the rows


def test_rows_of_a_map() -> None:
    module = Call(lambda s, x: s.b(s.a(x).relu()[:, :, 3:5] * 2), a=conv(), b=conv(2, 6, 1))
    graph = taken(module, torch.randn(2, 3, 10, 9))
    assert graph.nodes["b"].shape[0] == 2
