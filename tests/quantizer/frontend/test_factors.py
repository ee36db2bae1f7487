"""Sums with factors: as many layers as without, where a convolution can take them up."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.walk import capture
from nupes.quantizer.stages.fuser import fuse
from tests.quantizer.close import images, quantize_and_compare
from tests.quantizer.test_operators import Call, conv

Sum = Callable[[Call, Tensor], Tensor]

SUMS: dict[str, tuple[Sum, int]] = {
    "plain": (lambda s, y: torch.relu(s.c(y) + y), 3),
    "less": (lambda s, y: torch.relu(s.c(y) - y), 3),
    "part": (lambda s, y: torch.relu(s.c(y) * 3 + 0.5 * y), 3),
    "negative part": (lambda s, y: torch.relu(torch.sub(s.c(y), y, alpha=0.3)), 3),
    "other side": (lambda s, y: torch.relu(0.2 * y - s.c(y)), 3),
    "two stored tensors": (lambda s, y: torch.relu(y - torch.tanh(s.c(y))), 4),
    "two multiples": (lambda s, y: 0.3 * torch.relu(s.c(y)) - 0.2 * y, 4),
}


def network(form: Sum) -> Call:
    """Return a convolution, a sum with its result, and a convolution."""
    return Call(lambda s, x: s.b(form(s, s.a(x))), a=conv(), c=conv(6, 6, 1), b=conv(4, 6)).eval()


@pytest.mark.parametrize("name", SUMS)
def test_factors_cost_no_layer(name: str) -> None:
    form, layers = SUMS[name]
    torch.manual_seed(0)
    module = network(form)
    assert len(fuse(capture(export_module(module, (2, 3, 10, 9)))).stages) == layers
    _, ratio = quantize_and_compare(module, images(64, 3, 10, 9), method="rtn")
    assert ratio > 30


def test_the_output_is_no_function() -> None:
    module = Call(lambda s, x: s.c(x) - x, c=conv(3, 3, padding=1)).eval()
    assert len(fuse(capture(export_module(module, (2, 3, 10, 9)))).stages) == 2
