"""Normalization of pixels: against plain loops, and how near the real one it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError
from nupes.model.operators import Normalize
from tests.model.reference import result_of

SHAPE = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20))
SEED = st.integers(0, 2**32 - 1)
SPREAD = st.sampled_from([1, 2, 100, 32768])
ENDS = (-32768, 32767)


def draw(shape: tuple[int, ...], spread: int, seed: int) -> np.ndarray:
    """Return wide values, int16."""
    return np.random.default_rng(seed).integers(-spread, spread, shape).astype(np.int16)


@given(SHAPE, SPREAD, st.booleans(), st.data(), SEED)
def test_normalization(
    shape: tuple[int, ...], spread: int, centered: bool, data: st.DataObject, seed: int
) -> None:
    values, n = draw(shape, spread, seed), shape[3]
    epsilon = data.draw(st.integers(1, 1000) | st.integers(1, (n * n << 30) - 1))
    op = Normalize(n, centered, epsilon)
    op.check()
    got = op.accumulate(values)
    assert got.tolist() == [result_of(op, image) for image in values.tolist()]
    assert np.abs(got).max() <= op.bound(ENDS)
    assert op.shape((shape[1], shape[2], n)) == shape[1:]
    levels = np.clip(values, -256, 255)
    assert op.accumulate(levels.astype(np.float32)).tolist() == op.accumulate(levels).tolist()


@given(SHAPE, SPREAD, st.booleans(), SEED)
def test_it_is_near_the_real_one(
    shape: tuple[int, ...], spread: int, centered: bool, seed: int
) -> None:
    values, n, epsilon = draw(shape, spread, seed), shape[3], 7
    x = values.astype(np.float64)
    x -= x.mean(axis=3, keepdims=True) * centered
    exact = x / np.sqrt(np.square(x).mean(axis=3, keepdims=True) + epsilon / n**2)
    got = Normalize(n, centered, epsilon).accumulate(values) / 2**15
    np.testing.assert_allclose(got, exact, rtol=2.0**-15 + 1e-9, atol=2.0**-16 + 1e-12)


@given(SHAPE, SPREAD, st.booleans(), SEED)
def test_the_order_of_channels_does_not_matter(
    shape: tuple[int, ...], spread: int, centered: bool, seed: int
) -> None:
    values, op = draw(shape, spread, seed), Normalize(shape[3], centered, 9)
    order = np.random.default_rng(seed).permutation(shape[3])
    got = op.accumulate(values)[..., order]
    np.testing.assert_array_equal(got, op.accumulate(values[..., order]))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("value", [0, -32768, 32767])
def test_tokens_of_one_value(centered: bool, value: int) -> None:
    """No variance: 0 if the mean is subtracted, else the value's sign."""
    values = np.full((1, 1, 1, 16), value, np.int16)
    got = Normalize(16, centered, 1).accumulate(values)
    want = 0 if centered else 2**15 * np.sign(value)
    assert np.abs(got - want).max() <= 1


def test_the_widest_token_stays_within_its_bound() -> None:
    n = 1 << 14
    values = np.full((1, 1, 1, n), 32767, np.int16)
    values[..., 0] = -32768
    op = Normalize(n, True, 1)
    assert op.bound(ENDS) == n * 65535 < 2**31
    assert np.abs(op.accumulate(values)).max() <= 2**22 + 1


def test_what_cannot_be_is_refused() -> None:
    channels, epsilon = "normalized channels must be", "epsilon must be an integer in 1..4294967295"
    for op, text in (
        (Normalize(0, True, 1), f"{channels} an integer in 1..16384, not 0"),
        (Normalize(16385, True, 1), f"{channels} an integer in 1..16384, not 16385"),
        (Normalize(2, True, 0), f"{epsilon}, not 0"),
        (Normalize(2, True, 2**32), f"{epsilon}, not 4294967296"),
    ):
        with pytest.raises(InputError) as error:
            op.check()
        assert str(error.value) == text
    with pytest.raises(InputError) as error:
        Normalize(3, False, 1).shape((2, 1, 4))
    assert str(error.value) == "a normalization must be of 3 channels, not 4"
