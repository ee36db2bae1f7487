"""Sums of both signs: which convolutions read the signs themselves."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.verify import verify_capture
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse

SHAPE = (2, 3, 8, 7)


class Sloped(nn.Module):
    """A convolution, a PReLU with a slope for each channel, and what reads it."""

    def __init__(self, readers: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.first, self.slopes, self.readers = nn.Conv2d(3, 6, 3), nn.PReLU(6), readers
        nn.init.uniform_(self.slopes.weight, -0.5, 1.2)
        self.wide = nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 9, (1, 3), padding=(0, 2), dilation=2, groups=3)
        self.up, self.linear = nn.ConvTranspose2d(6, 4, 2, 2), nn.Linear(6 * 6 * 5, 5)

    def forward(self, x: Tensor) -> object:
        """Return what the readers make of the PReLU's result."""
        return self.readers(self, self.slopes(self.first(x)))


@pytest.mark.parametrize(
    ("readers", "channels"),
    [
        (lambda s, y: s.wide(y), [12, 12]),
        (lambda s, y: s.grouped(y), [12, 12]),
        (lambda s, y: s.up(y), [12, 12]),
        (lambda s, y: s.linear(y.flatten(1)), [12, 12]),
        (lambda s, y: (s.wide(y), s.grouped(y)), [12, 12, 12]),
        (lambda s, y: F.relu(s.wide(y)) + F.conv2d(y, s.wide.weight, stride=2, padding=1),
         [12, 12, 12]),
        (lambda s, y: s.wide(F.max_pool2d(y, 2)), [12, 12, 6]),
        (lambda s, y: (s.wide(y), y), [12, 12, 6]),
        (lambda s, y: y, [12, 12]),
    ],
)  # fmt: skip
def test_convolutions_take_sums_in(
    readers: Callable[[nn.Module, Tensor], object], channels: list[int]
) -> None:
    torch.manual_seed(0)
    module = Sloped(readers).eval()
    graph = capture(export_module(module, SHAPE))
    read = [
        graph.nodes[node.inputs[0]].shape[2]
        for node in graph.nodes.values()
        if isinstance(node.op, Convolution) and node.name != "first"
    ]
    assert read == channels[1:]
    x = torch.from_numpy(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    verify_capture(module, graph, fuse(graph), Batch((x,)))
