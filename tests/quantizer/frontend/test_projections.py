"""One linear layer for queries, keys and values is three."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.quantizer.frontend.graph import Convolution, Graph
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from tests.quantizer.test_operators import Call

SDPA = F.scaled_dot_product_attention


def layers(module: nn.Module) -> dict[str, int]:
    """Return the channels of each linear layer of tokens (5, 6)."""
    graph: Graph = capture(export_module(module.eval(), (2, 5, 6)))
    nodes = graph.nodes.values()
    return {node.name: node.shape[2] for node in nodes if isinstance(node.op, Convolution)}


def heads(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return queries, keys and values of some heads, which follow one another head by head."""
    return x.unflatten(-1, (count, 3, -1)).transpose(1, 2).unbind(3)


def test_each_part_is_a_layer_in_whatever_order_its_channels_are() -> None:
    module = Call(
        lambda s, x: SDPA(*heads(s.a(x), 2)).transpose(1, 2).flatten(2), a=nn.Linear(6, 24)
    )
    assert layers(module) == {"a.query": 8, "a.key": 8, "a.value": 8}


def test_what_is_two_things_stays_one() -> None:
    def forward(s: Call, x: Tensor) -> Tensor:
        y = s.a(x)
        return SDPA(y[..., :4], y[..., :4], y[..., 4:])

    assert layers(Call(forward, a=nn.Linear(6, 8))) == {"a": 8}
    plain = Call(lambda s, x: torch.cat(s.a(x).chunk(2, -1)[::-1], -1), a=nn.Linear(6, 8))
    assert layers(plain) == {"a": 8}
