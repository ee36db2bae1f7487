"""Operands of the cells: whatever the kind, they add up to the levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.cells import (
    CELLS,
    CellKind,
    CodebookRule,
    Operands,
    codebook_rule,
    holds,
    operands,
    product_table,
)
from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.planes import Planes, split_planes
from tests.codebooks import held_codebooks

MAGNITUDES = {"weight_magnitudes": (3, 10, 23, 41), "activation_magnitudes": (1, 5, 14, 41, 255)}
CONFIGS = st.one_of(
    st.builds(
        lambda mac, bits: ArrayConfig(4, 4, mac=mac, code_bits=bits),
        st.sampled_from(CELLS[:-1]),
        st.integers(2, 5),
    ),
    st.just(ArrayConfig(4, 4, mac="product", **MAGNITUDES)),
    st.just(ArrayConfig(4, 4, mac="uniform", code_bits=8)),
)


def levels_of(found: Operands, planes: Planes) -> np.ndarray:
    """Return the level of each code, the sum over its passes."""
    digits = found.digits(planes)
    return sum(found.levels[index, digits[:, index]] for index in range(digits.shape[1]))  # pyright: ignore[reportReturnType] - there is a pass


@given(CONFIGS, st.data())
def test_operands_add_up_to_the_levels(config: ArrayConfig, data: st.DataObject) -> None:
    kind = config.cell
    books = [data.draw(held_codebooks(config, weight)) for weight in (True, False)]
    stored = [split_planes(book, config.code_bits) for book in books]
    sides = operands(kind, *stored)
    limits = kind.weight_limit, kind.activation_limit
    for found, planes, book, limit in zip(sides, stored, books, limits, strict=True):
        np.testing.assert_array_equal(levels_of(found, planes), book.levels)
        assert found.magnitudes[0] == 0
        if kind.mac != "decode":
            assert np.abs(found.tables).max() <= limit
            assert max(found.shifts) < 1 << 4
        assert len(found.planes) <= config.table_slots
        if kind.mac == "decode":
            assert max(found.shifts) < 1 << config.shift_bits
            assert len(found.planes) == -(-planes.count // 2)
            for table, joined in zip(found.tables.astype(int), found.joined, strict=False):
                steps = np.diff(table)
                assert not joined or set(steps.tolist()) <= {0, 1}, "digits plus an offset"
            limits_of = -limit - 1, limit
            assert limits_of[0] <= found.tables.min() <= found.tables.max() <= limits_of[1]
    if kind.mac in ("pair", "product"):
        table = product_table(kind, *sides)
        assert table.max() <= config.largest_product
        u, v = (np.abs(side.tables) for side in sides)
        pairs = table[u[:, :, None, None], v]
        magnitudes = [side.magnitudes[np.abs(side.tables)] for side in sides]
        np.testing.assert_array_equal(pairs, np.multiply.outer(*magnitudes))


@given(CONFIGS, st.data())
def test_one_pass_is_enough_for_what_a_cell_holds(config: ArrayConfig, data: st.DataObject) -> None:
    book = data.draw(held_codebooks(config, False))
    if len(book) > 1 << config.code_bits:
        return
    assert holds(config.cell, book.levels, False)
    own, other = operands(config.cell, None, split_planes(book, config.code_bits))
    # An identity fits every cell, and a product cell adds up weights to 1.
    assert len(other.planes) == 1
    assert own.levels.sum(axis=0).tolist() == [0, 1] + [0] * ((1 << config.code_bits) - 2)


def test_wide_tensors_take_as_many_passes_as_their_planes() -> None:
    kind = ArrayConfig(4, 4, mac="uniform", weight_operand_bits=5).cell
    narrow = split_planes(make_codebook("uniform", 4, True), 4)
    for book in (make_codebook("uniform", 8, True), make_codebook("uniform", 8, False)):
        planes = split_planes(book, 4)
        assert operands(kind, narrow, planes)[1].shifts == (0, 4)
        if book.is_weight:
            assert operands(kind, planes, narrow)[0].shifts == (0, 4)
    image = table_codebook(np.arange(-114, 142), 8)
    assert operands(kind, narrow, split_planes(image, 4))[1].shifts == (0, 4)


def test_squares_meet_digits_as_digits() -> None:
    kind = CellKind("square", 4, 5)
    squares = split_planes(make_codebook("power", 4, True, 49, 0.5), 4)
    wide = split_planes(make_codebook("uniform", 8, False), 4)
    first, second = operands(kind, squares, squares)
    assert (first.linear, second.linear) == (False, False)
    assert (first.shifts, second.shifts) == ((0,), (0,))
    first, second = operands(kind, squares, wide)
    assert (first.linear, second.linear) == (True, True)
    assert (first.shifts, second.shifts) == ((0, 3), (0, 4))


@given(st.sampled_from(CELLS), st.integers(2, 4), st.booleans(), st.booleans())
def test_what_the_rule_allows_is_held(mac: str, bits: int, signed: bool, weight: bool) -> None:
    signed |= weight
    rule = codebook_rule(mac, bits, signed, weight)
    if rule.shared:
        return
    config = ArrayConfig(4, 4, mac=mac, code_bits=bits)
    steps = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    lmax = rule.lmax_of(steps) or (127 if signed else 255)
    if rule.family == "uniform":
        book = make_codebook("uniform", bits, signed)
    else:
        book = make_codebook("power", bits, signed, lmax, (rule.exponents or (0.37,))[0])
    assert holds(config.cell, book.levels, weight)


def test_the_rules() -> None:
    assert codebook_rule("decode", 4, True) == CodebookRule(midrise=True)
    assert codebook_rule("pair", 4, True) == CodebookRule()
    assert codebook_rule("uniform", 4, True) == CodebookRule("uniform", (1.0,))
    assert codebook_rule("square", 4, False) == CodebookRule("power", (0.5,), squares=True)
    assert codebook_rule("square", 5, True, weight=True) == CodebookRule()  # 225 is no weight
    assert codebook_rule("product", 4, True) == CodebookRule(shared=True)
    with pytest.raises(InputError) as error:
        codebook_rule("product", 8, True)
    assert str(error.value) == (
        "codes on the product cell must have at most 5 bits, not 8; use fewer bits for the ends too"
    )
    with pytest.raises(InputError) as error:
        codebook_rule("cube", 4, True)
    assert str(error.value) == f"cell must be one of {', '.join(CELLS)}, not 'cube'"
    with pytest.raises(InputError, match="bits must be 2 to 8, not 9"):
        codebook_rule("decode", 9, True)


def test_a_product_cell_refuses_other_levels() -> None:
    kind = CellKind("product", 3, 3, weight_magnitudes=(0, 1, 4), activation_magnitudes=(0, 2, 3))
    book = table_codebook([-4, 0, 1], 2)
    planes = split_planes(book, 2)
    other = Planes(2, planes.tables, planes.digits, 0)
    with pytest.raises(UnsupportedError, match=r"levels must be among \+-\[0, 2, 3\]"):
        operands(kind, planes, other)


def held(kind: CellKind, book: Codebook, weight: bool) -> bool:
    """Return whether a cell holds a codebook."""
    return holds(kind, book.levels, weight)


def test_what_each_cell_holds() -> None:
    square, power = (make_codebook("power", 4, True, lmax, 0.5) for lmax in (49, 127))
    uniform, wide = make_codebook("uniform", 4, True), make_codebook("uniform", 4, True, 70)
    kinds = {mac: ArrayConfig(4, 4, mac=mac).cell for mac in CELLS[:-1]}
    books = {"square": square, "power": power, "uniform": uniform, "wide": wide}
    found = {
        mac: [name for name, book in books.items() if held(kind, book, True)]
        for mac, kind in kinds.items()
    }
    assert found == {
        "decode": ["square", "power", "uniform", "wide"],
        "uniform": ["uniform"],
        "square": ["square", "uniform"],
        "pair": ["square", "power", "uniform", "wide"],
    }
    assert not held(kinds["pair"], make_codebook("power-midrise", 4, True, 127, 0.5), True)
    midrise = ArrayConfig(4, 4, mac="pair", weight_operand_bits=5).cell
    assert held(midrise, make_codebook("power-midrise", 4, True, 127, 0.5), True)
