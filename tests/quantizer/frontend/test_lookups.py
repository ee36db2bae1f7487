"""Ids of tokens: what is looked up is the input, and masks of keys from ones and zeros."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError, UnsupportedError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.frontend.inspection import inspect_module
from nupes.quantizer.frontend.program import Program, export_inputs, export_module, prepare
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
    """A sum of two tables, the second one of one row."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(20, 8), nn.Embedding(1, 8)
        self.linear = nn.Linear(8, 3)

    def forward(self, ids: Tensor, kinds: Tensor) -> Tensor:
        return self.linear(self.words(ids) + self.kinds(kinds))


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


def test_a_table_for_each_input() -> None:
    program = program_of(Two())
    assert [lookup.source.name for lookup in program.lookups.values()] == ["ids", "kinds"]
    assert program.numbers() == [0, 1]


@pytest.mark.parametrize("module", [Ids, Two])
def test_ids_are_found_without_data(module: type[nn.Module]) -> None:
    found = inspect_module(module().eval(), *[(6,)] * (1 if module is Ids else 2))
    assert found.problems == ()


AGAIN: dict[str, Callable[[Ids, Tensor], Tensor]] = {
    "another embedding": lambda s, ids: s.words(ids) + s.places(ids),
    "the same one": lambda s, ids: s.words(ids) + s.words(ids).relu(),
    "an operator": lambda s, ids: s.words(ids) + ids.float()[..., None],
    "a mask": lambda s, ids: Tokens.forward(s, ids, ids),
}


@pytest.mark.parametrize("name", AGAIN)
def test_ids_that_are_read_again_are_refused(name: str) -> None:
    class Again(Ids):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return AGAIN[name](self, ids)

    module = Again(lambda keys: (keys != 0)[:, None, None])
    with pytest.raises(UnsupportedError, match="module input 'ids' is looked up in an embedding"):
        program_of(module, 1)


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
    "two keys at a time": lambda keys: (keys + keys.roll(1, 1) > 0)[:, None, None],
    "few keys": lambda keys: (
        (keys != 0) | ((keys.sum(1, keepdim=True) < 3) & (torch.arange(6) == 5))
    )[:, None, None],
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


def test_flags_are_ones_and_zeros() -> None:
    program = program_of(Tokens(library))
    ids, keys = torch.zeros(2, 6, dtype=torch.int64), torch.full((2, 6), 2)
    with pytest.raises(InputError, match=r"input 'keys' must be ones and zeros, as it masks keys"):
        program.enter(Batch((ids, keys)))


class Features(nn.Module):
    """Ids, and integers that are real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.linear = nn.Embedding(20, 8), nn.Linear(4, 8)

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        return self.words(ids).mean(1) + self.linear(features)


def test_other_integers_are_real_numbers() -> None:
    exported = export_inputs(Features().eval(), (2, 6), (2, 4), integers=[True, True])
    given = prepare(exported).given
    assert [node.meta["val"].dtype for node in given] == [torch.int64, torch.float32]
    found = inspect_module(Features().eval(), (6,), (4,))
    assert found.problems == ()


def test_integer_features() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = np.random.default_rng(0).integers(0, 5, (32, 6))
    network = nupes.quantize(module, "W8A8", x, method="rtn")
    with torch.no_grad():
        expected = module(torch.from_numpy(x).float()).numpy()
    assert np.square(network(x) - expected).mean() < 0.01 * expected.var()


def test_ids_cannot_be_made_up() -> None:
    with pytest.raises(InputError, match="calibration must be given for a module of ids"):
        nupes.quantize(Ids().eval(), "W8A8", input_shape=(6,), input_range=(0, 19))


def test_ids_have_no_range() -> None:
    ids = np.random.default_rng(0).integers(0, 20, (8, 6))
    with pytest.raises(InputError, match="input_range must be None for input 'ids', whose ids are"):
        nupes.quantize(Ids().eval(), "W8A8", ids, input_range=(0, 19), method="rtn")


def test_a_mask_that_depends_on_two_inputs_is_refused() -> None:
    class Both(Tokens):
        def forward(self, ids: Tensor, keys: Tensor) -> Tensor:
            q, k, v = self.qkv(ids).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            mask = (1 - keys.type_as(ids)) * -1e9 + ids.mean(2)
            return SDPA(q, k, v, mask[:, None, None]).transpose(1, 2).flatten(2)

    assert inspect_module(Both().eval(), (6, 8), (6,)).problems != ()
