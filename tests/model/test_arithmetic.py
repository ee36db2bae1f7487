"""The integer arithmetic against Python integers, at every edge."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nupes.model.arithmetic import (
    encode,
    encode_table,
    exact_matmul,
    requantize,
    residual_term,
    saturate,
)
from nupes.model.errors import CapacityError
from tests.model.reference import arithmetic as reference

INT16 = st.integers(-(2**15), 2**15 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT48 = st.integers(-(2**47), 2**47 - 1)
MULT = st.integers(0, 65535)
SHIFT = st.integers(1, 31)


@given(st.integers(-(2**60), 2**60), st.integers(2, 32))
def test_saturate(value: int, bits: int) -> None:
    assert int(saturate(np.array(value), bits)) == reference.saturate(value, bits)


@given(INT32, MULT, INT48, SHIFT, st.integers(-(2**24), 2**24))
@example(-(2**31), 65535, -(2**47), 1, 0)
@example(2**31 - 1, 65535, 2**47 - 1, 1, 2**24)
@example(-1, 1, 0, 31, 0)
@example(0, 0, 2**47 - 1, 31, 0)
@example(0, 0, -(2**47), 31, 32768)
def test_requantize(acc: int, mult: int, bias: int, shift: int, residual: int) -> None:
    got = requantize(
        np.array([acc], np.int32), np.array([mult]), np.array([bias]), np.array([shift]), residual
    )
    assert got.dtype == np.int16
    want = reference.requantize(acc, mult, bias, shift, residual)
    assert got.tolist() == [want]
    acc0, mult0, bias0, shift0 = (np.array(value, np.int64) for value in (acc, mult, bias, shift))
    assert requantize(acc0, mult0, bias0, shift0, residual) == want


@pytest.mark.parametrize("shift", range(1, 32))
def test_requantize_at_every_shift(shift: int) -> None:
    rng = np.random.default_rng(shift)
    acc = np.concatenate([rng.integers(-(2**31), 2**31, 500), [-(2**31), 2**31 - 1, -1, 0, 1]])
    mult = np.array([0, 1, 32768, 65535])
    bias = np.array([-(2**47), 2 ** (shift - 1), 2**47 - 1, -1])
    got = requantize(acc[:, None].astype(np.int32), mult, bias, np.full(4, shift))
    for row, value in zip(got.tolist(), acc.tolist(), strict=True):
        for channel in range(4):
            want = reference.requantize(value, int(mult[channel]), int(bias[channel]), shift)
            assert row[channel] == want


def test_requantize_saturates_once_at_the_end() -> None:
    """A residual brings back a sum that alone would have saturated."""
    one = np.array([1])
    assert requantize(np.array([100000]), one * 2, one, one, -80000).tolist() == [20000]


@given(st.integers(-256, 255), MULT, SHIFT)
@example(-256, 65535, 1)
@example(255, 65535, 1)
@example(-1, 1, 1)
def test_residual_term(level: int, mult: int, shift: int) -> None:
    got = residual_term(np.array(level, np.int16), mult, shift)
    assert int(got) == reference.residual_term(level, mult, shift)


@given(st.lists(INT16, max_size=40), st.lists(INT16, min_size=1), st.data())
def test_encode(thresholds: list[int], values: list[int], data: st.DataObject) -> None:
    thresholds = sorted(thresholds)
    size = len(thresholds) + 1
    codes = data.draw(st.lists(st.integers(0, 255), min_size=size, max_size=size))
    table = np.array(thresholds, np.int16), np.array(codes, np.uint8)
    values = values + thresholds
    got = encode(np.array(values, np.int16), *table)
    assert got.tolist() == [reference.encode(value, thresholds, codes) for value in values]
    assert got.tolist() == encode_table(*table)[np.array(values) + 32768].tolist()


def test_encode_table_covers_all_of_y() -> None:
    table = encode_table(np.array([-32768, 0, 32767], np.int16), np.arange(4, dtype=np.uint8))
    assert len(table) == 65536
    assert [int(table[i]) for i in (0, 32767, 32768, 65534, 65535)] == [1, 1, 2, 2, 3]


@st.composite
def products(draw: st.DrawFn, bound: int) -> tuple[list[int], list[int]]:
    """Draw vectors whose products add up to exactly ``bound`` in magnitude."""
    size = draw(st.integers(1, 20))
    limit = max(1, int((bound // (2 * size)) ** 0.5))
    left = draw(st.lists(st.integers(-limit, limit), min_size=size, max_size=size))
    right = draw(st.lists(st.integers(-limit, limit), min_size=size, max_size=size))
    rest = bound - sum(abs(a * b) for a, b in zip(left, right, strict=True))
    place = draw(st.integers(0, size))
    left.insert(place, draw(st.sampled_from([-rest, rest])))
    right.insert(place, 1)
    return left, right


@pytest.mark.parametrize("bound", [1, 1000, 2**24 - 1, 2**24, 2**24 + 1, 2**31, 2**53 - 1])
@given(data=st.data())
def test_exact_matmul_at_the_bound(bound: int, data: st.DataObject) -> None:
    left, right = data.draw(products(bound))
    got = exact_matmul(np.array([left]), np.array(right)[:, None], bound)
    assert int(got[0, 0]) == sum(a * b for a, b in zip(left, right, strict=True))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_exact_matmul_of_matrices(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.integers(-255, 256, (m, k)), rng.integers(-128, 128, (k, n))
    want = (left.astype(object) @ right.astype(object)).tolist()
    assert exact_matmul(left, right, 255 * 128 * k).tolist() == want
    assert exact_matmul(left.astype(np.float32), right, 2**53 - 1).tolist() == want


def test_exact_matmul_needs_more_than_float32_from_two_to_the_24() -> None:
    """The odd sum 2**24 + 1 does not exist in float32."""
    ones = np.ones((3, 1))
    assert exact_matmul(np.array([[2**24 - 1, 1, 1]]), ones, 2**24 + 1).tolist() == [[2**24 + 1]]


def test_exact_matmul_refuses_what_it_cannot_prove() -> None:
    one = np.ones((1, 1))
    with pytest.raises(CapacityError) as error:
        exact_matmul(one, one, 2**53)
    assert str(error.value) == "exact product must stay below 2**53, not 9007199254740992"
