"""Masks of keys in all forms: what attention reads is the input, and the program computes the same
as the module."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.program import export_module, prepare
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.frontend.verify import run_program

TOKENS = 4

CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()

MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])

LEAST = torch.finfo(torch.float32).min


class Written(nn.Module):
    """Attention by hand, whose weights are made of scores and a mask (b, 1, 1, keys)."""

    def __init__(self, weigh: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv, self.weigh = nn.Linear(4, 12), weigh

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (2, 2)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        weights = self.weigh(q @ k.transpose(2, 3), mask[:, None, None, :])
        return (weights @ v).transpose(1, 2).flatten(2)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "before a factor": lambda s, m: ((s + (1 - m) * -1e9) / 2).softmax(-1),
    "before a factor that is a tensor": lambda s, m: (
        s.masked_fill(m == 0, -1e9) * torch.tensor(0.5)
    ).softmax(-1),
    "taken away": lambda s, m: (s - (1 - m) * 1e9).softmax(-1),
    "a gate and a sum": lambda s, m: (s * m - 1e9 * (1 - m)).softmax(-1),
    "the logarithm": lambda s, m: (s + torch.log(m.float())).softmax(-1),
    "and pairs, filled": lambda s, m: (
        s.masked_fill(~CAUSAL, -torch.inf).masked_fill(m == 0, -torch.inf).softmax(-1)
    ),
    "and pairs, the lowest number": lambda s, m: (
        s.masked_fill(~CAUSAL, LEAST) + (1.0 - m.float()) * LEAST
    ).softmax(-1),
    "and pairs, a product": lambda s, m: (s + (1.0 - CAUSAL.float() * m) * -1e9).softmax(-1),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_a_mask_of_keys(name: str) -> None:
    torch.manual_seed(0)
    module, x = Written(FORMS[name]).eval(), torch.randn(2, TOKENS, 4)
    shapes = (2, TOKENS, 4), (2, TOKENS)
    program = prepare(export_module(module, *shapes, integers=[False, True]))
    kinds = {base_name(node) for node in program.live() if node.op == "call_function"}
    assert kinds & {"scaled_dot_product_attention", "biased_attention"}
    assert not kinds & {"softmax", "masked_fill", "log"}
    assert {node.name for node in program.flags} == {"mask"}
    (output,) = program.outputs
    found = run_program(program, program.enter(Batch((x, MASK))), {output})[output]
    torch.testing.assert_close(found, module(x, MASK).detach())


def test_a_gate_that_nothing_hides_is_no_mask() -> None:
    module = Written(lambda s, m: (s * m).softmax(-1)).eval()
    shapes = (2, TOKENS, 4), (2, TOKENS)
    program = prepare(export_module(module, *shapes, integers=[False, True]))
    assert program.flags == frozenset()
