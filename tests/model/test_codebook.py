"""Codebooks: the families' formulas, the rules of a table, nearest codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import Codebook, make_codebook, power_levels, table_codebook
from nupes.model.errors import InputError
from tests.codebooks import activation_codebooks, weight_codebooks

BITS = st.integers(2, 8)


@given(BITS, st.booleans())
def test_uniform_levels_are_consecutive(bits: int, signed: bool) -> None:
    levels = make_codebook("uniform", bits, signed).levels
    first, last = (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    assert levels.tolist() == list(range(first, last + 1))


@given(BITS, st.booleans(), st.integers(1, 255))
def test_uniform_levels_end_at_lmax(bits: int, signed: bool, lmax: int) -> None:
    levels = make_codebook("uniform", bits, signed, lmax).levels.tolist()
    steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    grid = {(2 * lmax * k + steps) // (2 * steps) for k in range(steps + 1)}
    assert levels == sorted(grid | {-level for level in grid} if signed else grid)
    assert levels[-1] == lmax


@given(BITS, st.booleans(), st.booleans(), st.integers(1, 255), st.floats(0.1, 8))
def test_power_levels_follow_the_formula(
    bits: int, signed: bool, midrise: bool, lmax: int, exponent: float
) -> None:
    levels = power_levels(bits, signed, lmax, exponent, midrise).tolist()
    steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    half = 0.5 if midrise else 0.0
    exact = [lmax * ((k + half) / (steps + half)) ** (1 / exponent) for k in range(steps + 1)]
    magnitudes = sorted({abs(level) for level in levels})
    # Each level is a rounded value of the formula and each value has its level.
    assert all(min(abs(level - x) for x in exact) <= 0.5 + 1e-9 for level in magnitudes)
    assert all(min(abs(level - x) for level in magnitudes) <= 0.5 + 1e-9 for x in exact)
    assert levels[-1] == lmax
    assert levels == sorted(set(levels))
    assert len(levels) <= 2**bits
    if signed:
        assert levels == [-level for level in reversed(levels)]
    if not midrise:
        assert 0 in levels


@given(BITS, st.booleans(), st.integers(1, 255))
def test_power_one_is_uniform(bits: int, signed: bool, lmax: int) -> None:
    uniform = make_codebook("uniform", bits, signed, lmax)
    power = make_codebook("power", bits, signed, lmax, 1.0)
    assert power.levels.tolist() == uniform.levels.tolist()


def test_the_known_square_codebook() -> None:
    book = make_codebook("power", 4, True, 49, 0.5)
    assert book.levels.tolist() == [-49, -36, -25, -16, -9, -4, -1, 0, 1, 4, 9, 16, 25, 36, 49]


def test_coinciding_levels_are_merged() -> None:
    book = make_codebook("power", 4, False, 10, 0.25)
    assert book.levels.tolist() == sorted(set(book.levels.tolist()))
    assert len(book) < 16


@given(weight_codebooks() | activation_codebooks())
def test_parameters_reproduce_the_table(book: Codebook) -> None:
    if book.family == "table":
        again = table_codebook(book.levels.tolist(), book.bits)
    else:
        again = make_codebook(book.family, book.bits, book.signed, book.lmax, book.exponent)
    assert again == book
    assert hash(again) == hash(book)


@given(activation_codebooks(), st.lists(st.floats(-400, 400), min_size=1))
def test_nearest_is_the_closest_level(book: Codebook, values: list[float]) -> None:
    levels = book.levels.tolist()
    for value, code in zip(values, book.nearest(np.array(values)).tolist(), strict=True):
        assert abs(levels[code] - value) == min(abs(level - value) for level in levels)


@given(activation_codebooks())
def test_nearest_of_a_level_is_its_code_and_ties_go_up(book: Codebook) -> None:
    assert book.nearest(book.levels).tolist() == list(range(len(book)))
    middle = (book.levels[:-1].astype(float) + book.levels[1:]) / 2
    assert book.nearest(middle).tolist() == list(range(1, len(book)))


@given(activation_codebooks() | weight_codebooks(), st.data())
def test_levels_of_codes_are_those_of_the_table(book: Codebook, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, len(book) - 1), max_size=9))
    found = book.level_of(np.array([[0, len(book) - 1, *codes]], np.uint8))
    assert found.dtype == np.float32
    assert found.tolist() == [book.levels[[0, -1, *codes]].tolist()]


def test_levels_cannot_be_changed() -> None:
    levels = np.array([1, 2, 3])
    book = table_codebook(levels, 2)
    levels[0] = 0
    assert book.levels.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        book.levels[0] = 0


@pytest.mark.parametrize(
    ("levels", "weight"),
    [([-128, 127], True), ([-129, 0], False), ([0, 128], False), ([-256, 255], False)],
)
def test_weights_are_signed_8_bit(levels: list[int], weight: bool) -> None:
    assert table_codebook(levels, 8).is_weight is weight


@pytest.mark.parametrize(
    ("levels", "bits", "text"),
    [
        ([], 2, "codebook levels must be a non-empty vector, not shape (0,)"),
        ([[1, 2]], 2, "codebook levels must be a non-empty vector, not shape (1, 2)"),
        ([0.5, 1.5], 2, "codebook levels must be integers, not float64"),
        ([0], 0, "codebook bits must be 1 to 8, not 0"),
        ([0], 9, "codebook bits must be 1 to 8, not 9"),
        ([0, 1, 2, 3, 4], 2, "codebook of 2 bits must have at most 4 levels, not 5"),
        ([0, 2, 2], 2, "codebook levels must be strictly increasing"),
        ([2, 0], 2, "codebook levels must be strictly increasing"),
        ([-257, 0], 2, "codebook levels must lie in -256..255, not -257..0"),
        ([0, 256], 2, "codebook levels must lie in -256..255, not 0..256"),
        ([0, 65536 + 5], 2, "codebook levels must lie in -256..255, not 0..65541"),
    ],
)
def test_bad_tables_are_refused(levels: list, bits: int, text: str) -> None:
    with pytest.raises(InputError) as error:
        Codebook(np.array(levels), bits)
    assert str(error.value) == text


@pytest.mark.parametrize("exponent", [0.0, -1.0, 8.1, float("nan"), float("inf")])
def test_bad_exponents_are_refused(exponent: float) -> None:
    with pytest.raises(InputError, match=r"power exponent must be in \(0, 8\], not "):
        make_codebook("power", 4, True, 127, exponent)


def test_bad_families_are_refused() -> None:
    with pytest.raises(InputError, match="family 'power' needs lmax and exponent, not None and"):
        make_codebook("power", 4, True)
    with pytest.raises(InputError, match="must be uniform, power or power-midrise, not 'table'"):
        make_codebook("table", 4, True)
