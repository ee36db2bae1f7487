"""Ids of tokens: what is looked up is the input, and masks of keys from ones and zeros."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.inspection import inspect_module
from nupes.quantizer.frontend.program import Program, export_module, prepare
from nupes.quantizer.frontend.registry import base_name
from nupes.quantizer.frontend.walk import capture

SDPA = F.scaled_dot_product_attention


class Tokens(nn.Module):
    """Attention of embeddings and positions, with a mask that is made in some way."""

    def __init__(self, mask: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(6, 8)
        self.qkv, self.mask = nn.Linear(8, 24), mask

    def forward(self, ids: Tensor, keys: Tensor) -> Tensor:
        x = self.words(ids.view(-1, 6)) + self.places(torch.arange(6))
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mask = None if self.mask is None else self.mask(keys)
        return SDPA(q, k, v, mask).transpose(1, 2).flatten(2)


class Ids(Tokens):
    """The same without a mask."""

    def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(ids, ids)


class Two(nn.Module):
    """A sum of two tables, one of which is for two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(20, 8), nn.Embedding(2, 8)
        self.linear = nn.Linear(8, 3)

    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        return self.linear(self.words(ids) * self.words(ids).tanh() + self.kinds(kinds))


def library(keys: Tensor) -> Tensor:
    """Return a mask as libraries make it, in truth values (b, 1, queries, keys)."""
    truth = keys.to(torch.bool)
    batch, places = torch.arange(len(keys))[:, None, None, None], torch.arange(6)
    found = truth[batch, places[None, None, None, :]]
    return (torch.ones(6, 6, dtype=torch.bool) & found).expand(-1, -1, 6, -1)


def program_of(module: nn.Module, inputs: int = 2) -> Program:
    return prepare(export_module(module.eval(), *[(2, 6)] * inputs, integers=[True] * inputs))


def test_the_input_is_what_is_looked_up() -> None:
    module = Ids()
    program = program_of(module, 1)
    (node,), (given,) = program.inputs, program.given
    assert (base_name(node), given.name) == ("embedding", "ids")
    ids = torch.arange(12).reshape(2, 6)
    (found,) = program.enter(Batch((ids,)))
    torch.testing.assert_close(found, module.words(ids).detach())


@pytest.mark.parametrize("ids", [torch.full((1, 6), 20), torch.full((1, 6), -1), torch.ones(1, 6)])
def test_other_ids_are_refused(ids: Tensor) -> None:
    with pytest.raises(InputError, match=r"ids of input 'ids' must be integers in 0..19"):
        program_of(Ids(), 1).enter(Batch((ids,)))


def test_several_tables() -> None:
    program = program_of(Two())
    assert [lookup.source.name for lookup in program.lookups.values()] == ["ids", "ids", "kinds"]
    assert program.numbers() == [0, 0, 1]


@pytest.mark.parametrize("module", [Ids, Two])
def test_ids_are_found_without_data(module: type[nn.Module]) -> None:
    found = inspect_module(module().eval(), *[(6,)] * (1 if module is Ids else 2))
    assert found.problems == ()


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "truth values": lambda keys: keys.bool()[:, None, None],
    "comparison": lambda keys: (keys > 0)[:, None, None, :].expand(-1, 2, 6, -1),
    "as libraries make it": library,
    "numbers": lambda keys: (1.0 - keys)[:, None, None] * -1e9,
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_keys(name: str) -> None:
    torch.manual_seed(0)
    found = inspect_module(Tokens(MASKS[name]).eval(), (6,), (6,))
    assert found.problems == ()


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "causal as well": lambda keys: torch.ones(6, 6).tril().bool() & keys.bool()[:, None, None],
    "queries": lambda keys: keys.bool()[:, None, :, None].expand(-1, 1, -1, 6),
    "the other keys": lambda keys: (keys == 0)[:, None, None],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_masks_are_refused(name: str) -> None:
    assert inspect_module(Tokens(OTHERS[name]).eval(), (6,), (6,)).problems != ()


def test_the_exported_program_is_left_as_it_is() -> None:
    exported = export_module(Tokens(library).eval(), (2, 6), (2, 6), integers=[True, True])
    before = str(exported.graph)
    prepare(exported)
    assert str(exported.graph) == before


def test_ids_that_are_computed_with_are_refused() -> None:
    class Shifted(Ids):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return self.words(ids + 1)

    with pytest.raises(UnsupportedError, match="embedding"):
        capture(export_module(Shifted().eval(), (2, 6), integers=[True]))
