"""The token stage against Python integers, at every edge; how near the reciprocals are."""

from fractions import Fraction
from math import isqrt

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from nupes.model.token_stage import (
    bit_length,
    moments,
    reciprocal,
    reciprocal_root,
    scale_tokens,
)
from tests.model.reference import token_stage as reference

INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.integers(0, 2**62), min_size=1))
def test_bit_length(values: list[int]) -> None:
    values += [edge for power in range(63) for edge in (2**power - 1, 2**power)]
    assert bit_length(np.array(values)).tolist() == [value.bit_length() for value in values]


@given(INT32, st.integers(1, 65535), st.integers(1, 32))
@example(-(2**31), 65535, 1)
@example(2**31 - 1, 65535, 32)
@example(-1, 1, 32)
def test_scale_tokens(value: int, mantissa: int, shift: int) -> None:
    got = scale_tokens(np.array(value), np.array(mantissa), np.array(shift))
    assert int(got) == reference.scaled(value, mantissa, shift)
    assert -(2**48) < value * mantissa + 2 ** (shift - 1) < 2**48


def test_a_factor_of_one_changes_nothing() -> None:
    values = np.array([-(2**31), -1, 0, 1, 2**31 - 1])
    assert scale_tokens(values, np.array(32768), np.array(15)).tolist() == values.tolist()


TOTALS = st.integers(0, 2**31 - 1) | st.builds(
    lambda power, more: min(max(2**power + more, 0), 2**31 - 1),
    st.integers(0, 31), st.integers(-70, 70),
)  # fmt: skip


@given(TOTALS)
@example(0)
@example(1)
@example(2)
@example(2**23 + 64)
def test_reciprocal(total: int) -> None:
    mantissa, shift = (int(part) for part in reciprocal(np.array(total)))
    assert (mantissa, shift) == reference.share(total)
    assert 2**15 <= mantissa <= 65535
    assert 1 <= shift <= 31
    exact = Fraction(2**15, max(total, 2))
    assert abs(Fraction(mantissa, 2**shift) / exact - 1) <= Fraction(1, 2**16)


@given(st.integers(1, 2**61 - 1) | st.integers(1, 300))
@example(1)
@example(2**30 - 1)
@example(2**30)
@example(4**29)
@example(4**30 - 1)
@example(2**61 - 1)
def test_reciprocal_root(variance: int) -> None:
    mantissa, shift = (int(part) for part in reciprocal_root(np.array(variance)))
    assert (mantissa, shift) == reference.root(variance)
    assert 2**15 <= mantissa <= 65535
    assert 1 <= shift <= 31
    square = Fraction(mantissa, 2**shift) ** 2 * variance / 4**15
    assert (1 - Fraction(1, 2**15)) ** 2 < square < (1 + Fraction(1, 2**27)) ** 2


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=40),
    st.booleans(),
    st.integers(1, 2**30 - 1),
)
@example([-32768] * 7, False, 1)
@example([-32768] * 7, True, 1)
@example([-32768, 32767] * 4, True, 2**30 - 1)
@example([0], True, 1)
def test_moments(values: list[int], centered: bool, epsilon: int) -> None:
    first, variance = moments(np.array(values, np.int16), centered, epsilon)
    assert (int(first[0]), int(variance[0])) == reference.statistics(values, centered, epsilon)
    assert 1 <= int(variance[0]) < len(values) ** 2 << 31


def test_the_widest_token() -> None:
    """The most channels at the end of the range: every width is needed and enough."""
    n = 1 << 14
    first, variance = moments(np.full((1, n), -32768, np.int16), False, (n**2 << 30) - 1)
    assert int(variance[0, 0]) == (n**2 << 31) - 1 < 2**59
    half = np.repeat(np.array([-32768, 32767], np.int16), n // 2)
    first, variance = moments(half[None], True, 1)
    assert int(first[0, 0]) == -n // 2
    assert abs(n * -32768 - int(first[0, 0])) < 2**30
    mantissa, shift = reciprocal_root(variance)
    largest = scale_tokens(n * half.astype(np.int64) - first[0], mantissa[0], shift[0])
    assert abs(largest).max() <= isqrt(n << 30) + 1
