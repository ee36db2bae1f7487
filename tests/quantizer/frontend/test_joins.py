"""Joins of computed tensors: what is captured, what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nupes.model.errors import UnsupportedError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.graph import Concat, Product
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse

SHAPE = (2, 4, 6, 5)


class Two(nn.Module):
    """A function of two convolutions of one input, the second one of any size."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], second: nn.Module | None = None):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.second = nn.Conv2d(4, 4, 1) if second is None else second
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.first(x), self.second(x))


def pooled() -> nn.Module:
    """Return a gate: one value for each channel."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())


JOINS = [
    (lambda a, b: torch.cat([a, b], 1), None, Concat),
    (lambda a, b: torch.cat((a, b, a), dim=-3), None, Concat),
    (lambda a, b: torch.concatenate([a, torch.relu(b)], dim=1), None, Concat),
    (lambda a, b: torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1), None, Concat),
    (lambda a, b: a * b, None, Product),
    (lambda a, b: torch.mul(a, b), None, Product),
    (lambda a, b: a * b, pooled(), Product),
    (lambda a, b: b * a, pooled(), Product),
    (lambda a, b: a.mul_(b), pooled(), Product),
    (lambda a, b: b * a, nn.Conv2d(4, 1, 1), Product),
    (lambda a, b: a * b, nn.AdaptiveAvgPool2d((6, 1)), Product),
    (lambda a, b: a.mean((2, 3)) * b.mean((2, 3)), None, Product),
]


@pytest.mark.parametrize(("join", "second", "kind"), JOINS)
def test_joins_are_captured(
    join: Callable[[Tensor, Tensor], Tensor], second: nn.Module | None, kind: type
) -> None:
    torch.manual_seed(0)
    module = Two(join, second).eval()
    graph = capture(export_module(module, SHAPE))
    assert [type(node.op) for node in graph.nodes.values()].count(kind) == 1
    x = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    verify_capture(module, graph, fuse(graph), Batch((x,)))


def test_a_concatenation_of_one_tensor_is_that_tensor() -> None:
    graph = capture(export_module(Two(lambda a, b: torch.cat([a], 1) + b), SHAPE))
    assert not any(isinstance(node.op, Concat) for node in graph.nodes.values())


@pytest.mark.parametrize(
    ("join", "text"),
    [
        (
            lambda a, b: torch.cat([a.view(-1, 2, 2, 6, 5), b.view(-1, 2, 2, 6, 5)], 2),
            "must be along channels, rows, columns or tokens, not 2 of 5 dimensions",
        ),
        (
            lambda a, b: torch.nn.functional.glu(a, 2) * b[:, :, :3],
            "the halves of a gated unit must be of channels, not of dimension 2",
        ),
        (lambda a, b: torch.stack([a, b]), "it must leave the batch dimension as it is"),
        (
            lambda a, b: torch.cat(
                [torch.nn.functional.pad(a, (9, 9)).flatten(1), b.flatten(1)], 1
            ),
            "maps of more than 64 pixels must be concatenated before they are flattened, not after",
        ),
        (
            lambda a, b: torch.cat([a, torch.arange(240.0).reshape(SHAPE)], 1),
            "its constant operand must be the same for every image of the batch, not of shape",
        ),
        (
            lambda a, b: a.mean(3)[:, :, :1] * b.mean(3)[:, :1],
            r"one shape, or one of them sizes of 1 .* not \(4, 1\) and \(1, 6\)",
        ),
    ],
)
def test_other_joins_are_refused(join: Callable[[Tensor, Tensor], Tensor], text: str) -> None:
    with pytest.raises(UnsupportedError, match=text):
        capture(export_module(Two(join), SHAPE))
