"""The integers of the contract against exact rational arithmetic."""

from fractions import Fraction
from math import floor, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.arithmetic import MULT_MAX, SHIFT_RANGE, requantize
from nupes.model.errors import InputError
from nupes.quantizer.lowering.fixed_point import fits, lower_requantize, raise_scale, to_fixed_point

FACTORS = st.floats(2.0**-40, 2.0**15, exclude_max=True)


@given(FACTORS)
def test_fixed_point_follows_the_formula(factor: float) -> None:
    mult, shift = (int(value[0]) for value in to_fixed_point(np.array([factor])))
    expected_shift = min(max(15 - floor(log2(Fraction(factor))), 1), 31)
    expected = floor(Fraction(factor) * 2**expected_shift + Fraction(1, 2))
    if expected == 65536 and expected_shift > 1:
        expected, expected_shift = 32768, expected_shift - 1
    assert (mult, shift) == (expected, expected_shift)


@given(st.floats(2.0**-16, 2.0**14))
def test_fixed_point_keeps_sixteen_bits(factor: float) -> None:
    mult, shift = (int(value[0]) for value in to_fixed_point(np.array([factor])))
    assert 2**15 <= mult <= MULT_MAX
    assert SHIFT_RANGE[0] <= shift <= SHIFT_RANGE[1]
    assert abs(mult / 2**shift - factor) <= factor * 2.0**-16


def test_rounding_to_65536_loses_one_shift() -> None:
    mult, shift = to_fixed_point(np.array([2.0 - 2.0**-20]))
    assert (mult[0], shift[0]) == (32768, 14)


def test_a_dead_channel_has_multiplier_zero() -> None:
    tail = lower_requantize(np.array([0.0, 1.0]), np.array([100.0, 0.0]))
    assert tail.mult[0] == 0
    y = requantize(np.array([[12345, 7]]), tail.mult, tail.bias, tail.shift)
    assert y.tolist() == [[100, 7]]


@given(st.floats(2.0**-14, 2.0), st.floats(-20000, 20000), st.integers(-4000, 4000))
def test_requantized_value_is_near_the_real_one(factor: float, bias: float, acc: int) -> None:
    tail = lower_requantize(np.array([factor]), np.array([bias]))
    y = int(requantize(np.array([[acc]]), tail.mult, tail.bias, tail.shift)[0, 0])
    expected = min(max(acc * factor + bias, -32768), 32767)
    assert abs(y - expected) <= 0.51 + abs(acc * factor) * 2.0**-16


@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=4),
    st.floats(-1e12, 1e12),
    st.none() | st.floats(1e-9, 1e9),
    st.floats(1e-9, 1e3),
)
def test_raised_scale_fits_and_is_least(
    factors: list[float], bias: float, residual: float | None, start: float
) -> None:
    factor, offset = np.array(factors), np.full(len(factors), bias)
    scale = raise_scale(start, factor, offset, residual)
    skip = None if residual is None else residual / scale
    assert fits(factor / scale, offset / scale, skip)
    tail = lower_requantize(factor / scale, offset / scale)
    assert tail.mult.max() <= MULT_MAX
    assert np.abs(tail.bias).max() < 2**47
    if scale > start:
        half = scale / 2
        skip = None if residual is None else residual / half
        assert not fits(factor / half, offset / half, skip)


@pytest.mark.parametrize("exponent", range(-31, 15))
def test_powers_of_two_are_exact(exponent: int) -> None:
    mult, shift = to_fixed_point(np.array([2.0**exponent]))
    assert Fraction(int(mult[0]), 2 ** int(shift[0])) == Fraction(2) ** exponent


@pytest.mark.parametrize(
    ("start", "factor", "bias", "residual"),
    [
        (np.inf, 1.0, 0.0, None),
        (np.nan, 1.0, 0.0, None),
        (0.0, 1.0, 0.0, None),
        (1e-70, 1.0, 0.0, None),
        (1.0, np.inf, 0.0, None),
        (1.0, 1.0, np.nan, None),
        (1.0, 1.0, -1e300, None),
        (1.0, 1.0, 0.0, np.inf),
    ],
)
def test_what_has_no_scale_names_its_layer(
    start: float, factor: float, bias: float, residual: float | None
) -> None:
    with pytest.raises(InputError, match="layer 'conv': scales and biases must be 1e-60 to 1e"):
        raise_scale(start, np.array([factor]), np.array([bias]), residual, "layer 'conv'")


@pytest.mark.parametrize("factor", [1e20, 1e60])
def test_factors_beyond_every_register_raise_the_scale(factor: float) -> None:
    assert not fits(np.array([factor]), np.zeros(1))
    scale = raise_scale(1.0, np.array([factor]), np.array([-factor]))
    assert fits(np.array([factor / scale]), np.array([-factor / scale]))
