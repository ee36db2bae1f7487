"""Tokens and matrices that are folded into the batch: what reads them is captured as if they were
not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.quantizer.frontend.folds import unfold_batch
from nupes.quantizer.frontend.inspection import inspect_module
from nupes.quantizer.frontend.program import export_module, prepare
from tests.quantizer.close import randomize_norms


class Folded(nn.Module):
    """A function of what a linear layer makes of tokens (b, 5, 8)."""

    def __init__(self, function: Callable[["Folded", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(6, 8), nn.Linear(8, 4), function
        self.weight, self.bias = nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4))
        self.norm, self.gain = nn.LayerNorm(8), nn.Parameter(torch.randn(8))
        self.batch_norm = randomize_norms(nn.BatchNorm1d(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.first(x))


def rows(x: Tensor) -> Tensor:
    """Return tokens as rows (b * t, c)."""
    return x.reshape(-1, x.shape[-1])


def by_products(s: Folded, x: Tensor) -> Tensor:
    """Return attention of two heads by batched products."""
    q, k, v = (x.unflatten(2, (2, 4)).transpose(1, 2).reshape(-1, 5, 4) for _ in range(3))
    weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.5, 2)
    return torch.bmm(weights, v).view(-1, 2, 5, 4).transpose(1, 2).flatten(2)


def by_baddbmm(s: Folded, x: Tensor) -> Tensor:
    """Return attention of two heads, their scores and a bias in one operator."""
    x = x.unflatten(2, (2, 4)).transpose(1, 2).reshape(-1, 5, 4)
    bias = torch.linspace(-1, 1, 25, dtype=x.dtype).view(1, 5, 5)
    weights = torch.baddbmm(bias, x, x.transpose(1, 2), beta=0.5, alpha=0.3).softmax(-1)
    return torch.bmm(weights, x).view(-1, 2, 5, 4).transpose(1, 2).flatten(2)


def by_baddbmm_of_heads(s: Folded, x: Tensor) -> Tensor:
    """Return the same with a bias of keys for each head of each sample."""
    batch, x = len(x), x.unflatten(2, (2, 4)).transpose(1, 2).reshape(-1, 5, 4)
    bias = (torch.arange(1, 3)[:, None, None] * torch.arange(5)).repeat(batch, 1, 1).to(x.dtype)
    weights = torch.baddbmm(bias, x, x.transpose(1, 2), beta=0.5, alpha=0.3).softmax(-1)
    return torch.bmm(weights, x).view(-1, 2, 5, 4).transpose(1, 2).flatten(2)


FORMS: dict[str, Callable[[Folded, Tensor], Tensor]] = {
    "linear": lambda s, x: s.second(rows(x)).view(-1, 5, 4),
    "addmm": lambda s, x: torch.addmm(s.bias, rows(x), s.weight).unflatten(0, (-1, 5)),
    "addmm with factors": lambda s, x: torch.addmm(
        s.bias, rows(x), s.weight, beta=0.5, alpha=2.0
    ).view(-1, 5, 4),
    "mm": lambda s, x: torch.mm(rows(x), s.weight).view(-1, 5, 4),
    "chain": lambda s, x: s.second(F.gelu(s.norm(rows(x))) * s.gain).view(-1, 5, 4),
    "sum": lambda s, x: s.second(rows(x) + rows(s.norm(x))).view(-1, 5, 4),
    "dropout": lambda s, x: s.second(F.dropout(rows(x), 0.5, False)).view(-1, 5, 4),
    "batch norm": lambda s, x: s.second(s.batch_norm(rows(x)).reshape_as(x)),
    "batched products": by_products,
    "baddbmm": by_baddbmm,
    "baddbmm of heads": by_baddbmm_of_heads,
}


@pytest.mark.parametrize("name", FORMS)
def test_folded_tokens_are_tokens(name: str) -> None:
    torch.manual_seed(0)
    found = inspect_module(Folded(FORMS[name]).eval(), (5, 6))
    assert found.problems == ()
    assert found.layers[0].output_shape == (5, 1, 8)


def test_a_graph_without_folds_is_itself() -> None:
    exported = export_module(Folded(lambda s, x: s.second(x)).eval(), (2, 5, 6))
    program = prepare(exported)
    assert unfold_batch(exported.graph, program.inputs) is exported.graph


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.second(x.transpose(0, 1).reshape(-1, 8)).view(5, -1, 4).transpose(0, 1),
        lambda s, x: (rows(x) + torch.ones(10, 8, dtype=x.dtype)).view(-1, 5, 8),
        lambda s, x: torch.mm(torch.ones(10, 10, dtype=x.dtype), rows(x)).view(-1, 5, 8),
        lambda s, x: torch.mm(rows(x), torch.mm(rows(x).T, rows(x))).view(-1, 5, 8),
    ],
    ids=["tokens in front of the batch", "a constant for each row", "mixed rows", "of all rows"],
)
def test_rows_of_another_order_are_refused(function: Callable[[Folded, Tensor], Tensor]) -> None:
    found = inspect_module(Folded(function).eval(), (5, 6))
    assert "its operand must have the batch in dimension 0; move it back before" in {
        problem.reason for problem in found.problems
    }
