"""Tensors of no values are left out of concatenations."""

import numpy as np
import torch
from torch import Tensor, nn

import nupes
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name


class Joined(nn.Module):
    """What a layer gives, taken apart and put together again."""

    def __init__(self, *ends: tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.ends = nn.Linear(6, 6), nn.Linear(6, 3), ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(torch.cat([x[..., low:high] for low, high in self.ends], -1))


def test_what_has_values_stays() -> None:
    x = np.random.default_rng(0).normal(size=(32, 5, 6)).astype(np.float32)
    found = [
        nupes.quantize(Joined(*ends).eval(), "W8A8", x, method="rtn")(x)
        for ends in (
            [(0, 6)], [(0, 6), (6, 6)], [(0, 0), (0, 6), (6, 6)], [(0, 2), (2, 2), (2, 6)],
        )
    ]  # fmt: skip
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


class Folded(Joined):
    """The same of tokens that are folded into the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, 6)).reshape(-1, 5, 3)


def test_tokens_may_be_folded_into_the_batch() -> None:
    x = np.random.default_rng(0).normal(size=(32, 5, 6)).astype(np.float32)
    folded, plain = (
        nupes.quantize(kind((0, 6), (6, 6)).eval(), "W8A8", x, method="rtn")(x)
        for kind in (Folded, Joined)
    )
    np.testing.assert_array_equal(folded, plain)


def test_one_tensor_is_itself() -> None:
    program = prepare(export_module(Joined((0, 6), (6, 6)).eval(), (2, 5, 6)))
    assert "cat" not in {base_name(n) for n in program.live() if n.op == "call_function"}
