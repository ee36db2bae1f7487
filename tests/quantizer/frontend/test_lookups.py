"""Ids of tokens: what is looked up is the input, and masks of keys from ones and zeros."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nupes
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.positions import Positions
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
    "an operator": lambda s, ids: s.words(ids) + ids.float()[..., None],
    "a mask of queries": lambda s, ids: Tokens.forward(s, ids, ids),
}


@pytest.mark.parametrize("name", AGAIN)
def test_ids_that_are_read_again_are_refused(name: str) -> None:
    class Again(Ids):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return AGAIN[name](self, ids)

    module = Again(lambda keys: (keys != 0)[:, None, :, None])
    with pytest.raises(UnsupportedError, match="module input 'ids' is looked up in an embedding"):
        program_of(module, 1)


def shown(ids: Tensor) -> Tensor:
    return (ids != 1).int()


PLACES: dict[str, tuple[Callable[[Tensor], Tensor], Positions | None]] = {
    "ids": (lambda ids: ids, None),
    "RoBERTa": (
        lambda ids: (torch.cumsum(shown(ids), 1).type_as(ids) * shown(ids)).long() + 1,
        Positions(1, 2, 1),
    ),
    "by choice": (
        lambda ids: torch.where(ids == 1, 0, (ids != 1).cumsum(1) + 3),
        Positions(1, 4, 0),
    ),
}


class Placed(Ids):
    """Words and rows of another table, which are found in some way."""

    def __init__(self, places: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.places, self.rows = nn.Embedding(20, 8), places

    def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
        return self.qkv(self.words(ids) + self.places(self.rows(ids)))


@pytest.mark.parametrize("name", PLACES)
def test_ids_that_are_looked_up_twice(name: str) -> None:
    rows, positions = PLACES[name]
    program = program_of(Placed(rows), 1)
    assert program.numbers() == [0, 0]
    assert [found.positions for found in program.lookups.values()] == [None, positions]
    ids = torch.tensor([[5, 1, 7, 8, 1, 1], [1, 2, 3, 4, 5, 6]])
    _, found = program.enter(Batch((ids,)))
    torch.testing.assert_close(found, program.lookups[program.inputs[1]].table[rows(ids)])


def test_rows_that_are_selected_are_looked_up() -> None:
    class Selected(Placed):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            rows = self.places.weight.index_select(0, self.rows(ids).view(-1))
            return self.qkv(self.words(ids) + rows.view(*ids.shape, -1).detach())

    program = program_of(Selected(PLACES["RoBERTa"][0]), 1)
    assert [found.positions for found in program.lookups.values()] == [None, Positions(1, 2, 1)]


def test_what_is_gathered_from_one_number_is_no_input() -> None:
    class Kinds(Placed):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            kinds = torch.zeros(1, 9, dtype=torch.int64).expand(len(ids), -1)
            kinds = kinds.gather(1, self.rows(ids))
            return self.qkv(self.words(ids) + self.places(self.rows(ids)) + self.places(kinds))

    program = program_of(Kinds(PLACES["RoBERTa"][0]), 1)
    assert len(program.inputs) == 2


def test_positions_of_a_mask() -> None:
    class Counted(Tokens):
        def forward(self, ids: Tensor, keys: Tensor) -> Tensor:
            x = self.words(ids) + self.places((keys.cumsum(1) * keys - 1).long() + 1)
            q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            return SDPA(q, k, v, library(keys)).transpose(1, 2).flatten(2)

    module = Counted()
    module.places = nn.Embedding(7, 8)
    program = program_of(module)
    assert program.numbers() == [0, 1, 1]
    assert [found.positions for found in program.lookups.values()] == [None, Positions(0, 1, 0)]


OTHER_PLACES: dict[str, Callable[[Tensor], Tensor]] = {
    "from the end": lambda ids: shown(ids).flip(1).cumsum(1) + 1,
    "twice as far": lambda ids: shown(ids).cumsum(1) * shown(ids) * 2 + 1,
    "with two paddings": lambda ids: (shown(ids) * (ids != 2)).cumsum(1) + 1,
    "of what is not counted": lambda ids: shown(ids).cumsum(1) + 1,
}


@pytest.mark.parametrize("name", OTHER_PLACES)
def test_other_positions_are_refused(name: str) -> None:
    found = inspect_module(Placed(OTHER_PLACES[name]).eval(), (6,))
    assert found.problems != ()


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "truth values": lambda keys: keys.bool()[:, None, None],
    "comparison": lambda keys: (keys > 0)[:, None, None, :].expand(-1, 2, 6, -1),
    "as libraries make it": library,
    "numbers": lambda keys: (1.0 - keys)[:, None, None] * -1e9,
    "causal as well": lambda keys: torch.ones(6, 6).tril().bool() & keys.bool()[:, None, None],
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_keys(name: str) -> None:
    torch.manual_seed(0)
    found = inspect_module(Tokens(MASKS[name]).eval(), (6,), (6,))
    assert found.problems == ()


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "queries": lambda keys: keys.bool()[:, None, :, None].expand(-1, 1, -1, 6),
    "the other keys": lambda keys: (keys == 0)[:, None, None],
    "two keys at a time": lambda keys: (keys + keys.roll(1, 1) > 0)[:, None, None],
    "few keys": lambda keys: (
        (keys != 0) | ((keys.sum(1, keepdim=True) < 3) & (torch.arange(6) == 5))
    )[:, None, None],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_masks_are_refused(name: str) -> None:
    first, *_ = inspect_module(Tokens(OTHERS[name]).eval(), (6,), (6,)).problems
    assert first.reason.startswith("a mask made of input 'keys' must hide keys from all queries al")


PADDED: dict[str, tuple[Callable[[Tensor], Tensor], set[int]]] = {
    "one id": (lambda ids: (ids != 1)[:, None, None], {1}),
    "in numbers": (lambda ids: (ids == 0).float()[:, None, None] * -1e4, {0}),
    "two ids": (lambda ids: ((ids > 1) & (ids != 7))[:, None, None], {0, 1, 7}),
    "and what follows": (lambda ids: library((ids != 3).long()).tril(), {3}),
}


@pytest.mark.parametrize("name", PADDED)
def test_masks_of_ids(name: str) -> None:
    mask, hidden = PADDED[name]

    class Padded(Ids):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return Tokens.forward(self, ids, ids)

    program = program_of(Padded(mask), 1)
    assert program.numbers() == [0, 0]
    ids = torch.arange(18).reshape(3, 6)
    _, found = program.enter(Batch((ids,)))
    assert found.tolist() == [[float(one not in hidden) for one in row] for row in ids.tolist()]
    capture(export_module(Padded(mask).eval(), (2, 6), integers=[True]))
    with pytest.raises(InputError, match=r"ids of input 'ids' must be integers in 0..19"):
        program.enter(Batch((ids + 3,)))


def test_ids_that_hide_what_follows_them_are_refused() -> None:
    class Ended(Ids):
        def forward(self, ids: Tensor) -> Tensor:  # type: ignore[override]
            return Tokens.forward(self, ids, ids)

    module = Ended(lambda ids: ((ids == 1).cumsum(1) == 0)[:, None, None])
    with pytest.raises(UnsupportedError, match="a mask made of input 'ids' must hide keys from al"):
        capture(export_module(module.eval(), (2, 6), integers=[True]))


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
