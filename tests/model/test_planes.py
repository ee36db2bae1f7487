"""Planes: exact digits of every level, for every codebook on every array."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import ACTIVATION_LEVELS, WEIGHT_LEVELS, Codebook, table_codebook
from nupes.model.planes import planes_of, split_planes
from nupes.model.tensor import Coded, Wide
from tests.codebooks import activation_codebooks, weight_codebooks

CODE_BITS = st.integers(2, 8)


@st.composite
def full_tables(draw: st.DrawFn, limits: tuple[int, int]) -> Codebook:
    """Draw a table of up to 256 levels anywhere in a range, dense or sparse."""
    low = draw(st.integers(limits[0], limits[1]))
    high = draw(st.integers(low, limits[1]))
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 256))
    inside = np.random.default_rng(seed).integers(low, high + 1, count)
    return table_codebook(np.unique([low, high, *inside])[:256], 8)


BOOKS = (
    activation_codebooks()
    | weight_codebooks()
    | full_tables(ACTIVATION_LEVELS)
    | full_tables(WEIGHT_LEVELS)
)


@given(BOOKS, CODE_BITS)
def test_planes_add_up_to_every_level(book: Codebook, code_bits: int) -> None:
    planes = split_planes(book, code_bits)
    for code, level in enumerate(book.levels.tolist()):
        digits = planes.digits[code].tolist()
        assert sum(int(t[d]) for t, d in zip(planes.tables, digits, strict=True)) == level


@given(BOOKS, CODE_BITS)
def test_joined_digits_are_increasing_and_linear(book: Codebook, code_bits: int) -> None:
    planes = split_planes(book, code_bits)
    joined = planes.joined.tolist()
    assert all(a < b for a, b in pairwise(joined))
    if planes.count > 1:
        # What the residual path computes instead of a look-up.
        assert [value + planes.offset for value in joined] == book.levels.tolist()
        assert planes.offset == int(book.levels[0])
    else:
        assert joined == list(range(len(book)))
        assert planes.offset == 0


@given(BOOKS, CODE_BITS)
def test_tables_fit_the_array(book: Codebook, code_bits: int) -> None:
    planes = split_planes(book, code_bits)
    low, high = WEIGHT_LEVELS if book.is_weight else ACTIVATION_LEVELS
    assert planes.tables.shape == (planes.count, 2**code_bits)
    assert planes.tables.min() >= low
    assert planes.tables.max() <= high
    assert planes.digits.shape == (len(book), planes.count)
    assert planes.digits.max() < 2**code_bits
    span = int(book.levels[-1]) - int(book.levels[0])
    # One pass if the codes fit, else one for each digit of the span and no more.
    fits = len(book) <= 2**code_bits
    assert planes.count == (1 if fits else -(-span.bit_length() // code_bits))


@pytest.mark.parametrize(
    ("levels", "code_bits", "tables"),
    [
        ([-7, 0, 9], 2, [[-7, 0, 9, 9]]),
        ([-3, -2, -1, 1, 2], 2, [[0, 1, 2, 3], [-3, 1, 1, 1]]),
        ([3], 2, [[3, 3, 3, 3]]),
        (range(5), 2, [[0, 1, 2, 3], [0, 4, 4, 4]]),
        (range(-8, 8), 3, [[0, 1, 2, 3, 4, 5, 6, 7], [-8, 0, 0, 0, 0, 0, 0, 0]]),
    ],
)
def test_known_tables(levels: list[int], code_bits: int, tables: list[list[int]]) -> None:
    assert split_planes(table_codebook(list(levels), 8), code_bits).tables.tolist() == tables


def test_8_bits_on_a_4_bit_array_take_two_planes() -> None:
    planes = split_planes(table_codebook(list(range(-128, 128)), 8), 4)
    assert planes.count == 2
    assert planes.digits[200].tolist() == [8, 12]
    assert [int(planes.tables[0, 8]), int(planes.tables[1, 12])] == [8, 64]


@pytest.mark.parametrize(
    ("code_bits", "count"), list(zip(range(2, 9), (8, 6, 4, 4, 3, 3, 2), strict=True))
)
def test_wide_tensors_are_digits_of_their_results(code_bits: int, count: int) -> None:
    planes = planes_of(Wide(1.0), code_bits)
    assert (planes.count, planes.offset) == (count, -32768)
    y = np.arange(-32768, 32768)
    np.testing.assert_array_equal(planes.joined + planes.offset, y)
    levels = sum(planes.tables[i][planes.digits[:, i]].astype(int) for i in range(count))
    np.testing.assert_array_equal(levels + planes.offset, y)


def test_coded_tensors_are_digits_of_their_levels() -> None:
    book = table_codebook([-3, -2, -1, 1, 2], 3)
    found, want = planes_of(Coded(book, 0.5), 2), split_planes(book, 2)
    np.testing.assert_array_equal(found.tables, want.tables)
    np.testing.assert_array_equal(found.digits, want.digits)
