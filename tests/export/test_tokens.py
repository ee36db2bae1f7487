"""Outputs whose channels are last, in exports: in the order of the host, not that of maps."""

from functools import cache

import torch
from torch import Tensor, nn

import nupes
from nupes.model.network import IntegerNetwork
from tests.export.test_onnx import check as check_onnx
from tests.export.test_qonnx import check as check_qonnx
from tests.quantizer.close import images


class Pixels(nn.Module):
    """A map whose pixels are given as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers for each pixel, (b, h * w, 2)."""
        return self.head(torch.relu(self.conv(x)).flatten(2).transpose(1, 2))


@cache
def network() -> IntegerNetwork:
    """Return the integer network of pixels as tokens."""
    torch.manual_seed(0)
    x = images(8, 3, 5, 6)
    return nupes.quantize(Pixels().eval(), "W4A4", x, method="rtn", codebook="uniform")


def test_onnx() -> None:
    check_onnx(network(), images(2, 3, 5, 6, seed=1), "float32")


def test_qonnx() -> None:
    check_qonnx(network(), images(2, 3, 5, 6, seed=1))
