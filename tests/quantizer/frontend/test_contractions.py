"""Einsums, and products with matrices of each head, are captured as what they compute."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nupes.quantizer.frontend.contractions import terms_of
from nupes.quantizer.frontend.inspection import inspect_module
from tests.quantizer.close import images
from tests.quantizer.frontend.test_liveness import taken

TOKENS = torch.from_numpy(images(2, 5, 6))

Form = Callable[["Part", Tensor], Tensor]


class Part(nn.Module):
    """A function of tokens (b, 5, 8), made by a linear layer, and of constants."""

    def __init__(self, function: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(6, 8), nn.Linear(8, 3), function
        self.qkv = nn.Parameter(torch.randn(8, 3, 2, 4) / 3)
        self.out = nn.Parameter(torch.randn(2, 4, 8) / 3)
        self.rows, self.mixer = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(5, 5))
        self.each = nn.Parameter(torch.randn(2, 4, 4) / 2)
        self.mixers, self.fewer = nn.Parameter(torch.randn(2, 5, 5)), torch.randn(2, 3, 5)
        self.gain = nn.Parameter(torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.first(x))


def heads(x: Tensor) -> Tensor:
    """Return tokens as two heads (b, 2, 5, 4)."""
    return x.unflatten(2, (2, 4)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Return two heads as tokens."""
    return x.transpose(1, 2).flatten(2)


def attention(s: Part, x: Tensor) -> Tensor:
    """Return attention of two heads, all of it einsums."""
    q, k, v = torch.einsum("btc,cshd->sbthd", x, s.qkv)
    weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / 2).softmax(-1)
    return torch.einsum("bqhd,hdo->bqo", torch.einsum("bhqk,bkhd->bqhd", weights, v), s.out)


def linear_attention(s: Part, x: Tensor) -> Tensor:
    """Return linear attention of two heads."""
    q, k, v = torch.einsum("btc,cshd->sbhtd", x, s.qkv)
    return joined(
        torch.einsum("bhtd,bhde->bhte", q.relu(), torch.einsum("bhtd,bhte->bhde", k.relu(), v))
    )


EINSUMS: dict[str, Form] = {
    "attention": attention,
    "linear attention": linear_attention,
    "a linear layer": lambda s, x: torch.einsum("b t c, o c -> b t o", x, s.last.weight),
    "weights first": lambda s, x: torch.einsum("oc,btc->bto", s.last.weight, x),
    "any dimensions": lambda s, x: torch.einsum("...c,oc->...o", x, s.last.weight),
    "no result": lambda s, x: torch.einsum("btc,co", x, s.last.weight.t()),
    "mixed tokens": lambda s, x: s.last(torch.einsum("btc,st->bsc", x, s.mixer)),
    "a matrix of each head": lambda s, x: joined(torch.einsum("bhtd,hde->bhte", heads(x), s.each)),
    "mixed tokens of each head": lambda s, x: joined(
        torch.einsum("bhtd,hst->bhsd", heads(x), s.mixers)
    ),
    "numbers of each channel": lambda s, x: torch.einsum("btc,tc->btc", x, s.rows),
    "numbers of each head": lambda s, x: joined(torch.einsum("bhtd,h->bhtd", heads(x), s.gain)),
    "a sum": lambda s, x: torch.einsum("btc,tc->bt", x, s.rows),
    "three operands": lambda s, x: torch.einsum("btc,tc,oc->bto", x, s.rows, s.last.weight),
    "transposed": lambda s, x: s.last(torch.einsum("btc->bct", x).mT),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_einsums(name: str) -> None:
    taken(Part(EINSUMS[name]), TOKENS)


PRODUCTS: dict[str, Form] = {
    "linear": lambda s, x: joined(heads(x) @ s.each),
    "linear, transposed": lambda s, x: joined((s.each.mT @ heads(x).mT).mT),
    "mixed tokens": lambda s, x: joined(s.mixers @ heads(x)),
    "mixed tokens, transposed": lambda s, x: joined((heads(x).mT @ s.mixers.mT).mT),
    "one matrix": lambda s, x: joined(s.mixer @ heads(x)),
    "fewer tokens": lambda s, x: joined(s.fewer @ heads(x)),
    "one sequence": lambda s, x: s.last(s.mixer @ x),
    "a matrix of each head and one of tokens": lambda s, x: joined(s.mixers @ x[:, None, :, :4]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_constants(name: str) -> None:
    taken(Part(PRODUCTS[name]), TOKENS)


def test_indices() -> None:
    assert terms_of("ab,bc", (2, 2)) == (["ab", "bc"], "ac")
    assert terms_of("ca,ab", (2, 2)) == (["ca", "ab"], "bc")
    assert terms_of("...i,...ij->...j", (3, 3)) == (["ABi", "Bij"], "ABj")
    assert terms_of("aa->a", (2,)) is None
    assert terms_of("ab->c", (2,)) is None


def test_what_is_no_product_is_refused() -> None:
    module = Part(lambda s, x: torch.einsum("bii->bi", x[..., :5]))
    (problem,) = inspect_module(module, (5, 6)).problems[:1]
    assert problem.operator == "einsum"
