"""Tensors that are stacked in front of the batch and added are their sum."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.frontend.program import export_module
from nupes.quantizer.frontend.stacked_sums import join_stacked_sums
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken
from tests.quantizer.test_operators import Call

X = torch.from_numpy(images(2, 6))

FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "a mean": lambda s, x: torch.stack([s.a(x), s.b(x), x], 0).mean(0),
    "a sum": lambda s, x: torch.stack([s.a(x), s.b(x)]).sum(dim=0),
    "one tensor": lambda s, x: torch.stack([s.a(x)]).mean(0) + torch.stack([s.b(x)]).sum(0),
    "dimensions from the end": lambda s, x: torch.stack([s.a(x), s.b(x)], -3).mean(-3),
}


@pytest.mark.parametrize("name", FORMS)
def test_stacked_sums(name: str) -> None:
    taken(Call(FORMS[name], a=nn.Linear(6, 6), b=nn.Linear(6, 6)), X)


def test_other_sums_are_left() -> None:
    module = Call(lambda s, x: torch.stack([s.a(x), x], 1).sum(1), a=nn.Linear(6, 6))
    graph = export_module(module, X.shape).graph
    assert join_stacked_sums(graph) is graph
