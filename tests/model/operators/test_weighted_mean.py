"""Weighted means of pixels: against plain loops, and what softmax promises."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError
from nupes.model.operators import WeightedMean
from tests.model.reference import result_of

SIZE = st.integers(1, 4)
SEED = st.integers(0, 2**32 - 1)


def draw(seed: int, tokens: int, keys: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (1, tokens, 1, keys), the largest of each token 255, and values."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 256, (1, tokens, 1, keys))
    weights[0, np.arange(tokens), 0, rng.integers(0, keys, tokens)] = 255
    return weights, rng.integers(-128, 128, (1, keys, 1, channels))


@given(SIZE, SIZE, SIZE, SIZE, SIZE, SEED)
def test_means(h: int, w: int, rows: int, columns: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rows * columns
    weights = rng.integers(0, 256, (2, h, w, keys)) >> rng.integers(0, 9)  # zeros, too
    values = rng.integers(-128, 128, (2, rows, columns, channels))
    op = WeightedMean(keys)
    want = [result_of(op, *maps) for maps in zip(weights.tolist(), values.tolist(), strict=True)]
    assert op.accumulate(weights, values).tolist() == want
    bound = op.bound((0, 255), (-128, 127))
    floats = (part.astype(np.float32) for part in (weights, values))
    assert op.accumulate(*floats, bound=bound).tolist() == want
    assert np.abs(want).max() <= bound
    assert op.shape(weights.shape[1:], values.shape[1:]) == np.shape(want)[1:]
    assert op.macs(weights.shape[1:], values.shape[1:]) == h * w * keys * channels


@given(SIZE, st.integers(1, 200), SIZE, SEED)
def test_the_order_of_keys_does_not_matter(
    tokens: int, keys: int, channels: int, seed: int
) -> None:
    weights, values = draw(seed, tokens, keys, channels)
    order = np.random.default_rng(seed).permutation(keys)
    op = WeightedMean(keys)
    np.testing.assert_array_equal(
        op.accumulate(weights, values), op.accumulate(weights[..., order], values[:, order])
    )


@given(SIZE, st.integers(1, 200), SIZE, SEED)
def test_weights_add_up_to_one(tokens: int, keys: int, channels: int, seed: int) -> None:
    """Values that are all alike are their own mean, to 2**-16 of them; no mean is beyond it."""
    weights, values = draw(seed, tokens, keys, channels)
    op = WeightedMean(keys)
    means = op.accumulate(weights, values)
    for token in range(tokens):
        row = weights[0, token, 0].tolist()
        for channel in range(channels):
            column = values[0, :, 0, channel].tolist()
            exact = Fraction(sum(a * b for a, b in zip(row, column, strict=True)), sum(row))
            error = abs(Fraction(int(means[0, token, 0, channel]), 2**15) - exact)
            assert error <= abs(exact) / 2**16 + Fraction(1, 2**16)


@given(st.integers(2, 255), st.integers(-128, 127))
def test_one_key_is_its_own_mean(weight: int, value: int) -> None:
    mean = WeightedMean(1).accumulate(*(np.full((1, 1, 1, 1), x) for x in (weight, value)))
    assert abs(int(mean[0, 0, 0, 0]) - value * 2**15) <= abs(value) / 2 + 1


def test_keys_of_weight_0_do_not_count() -> None:
    weights, values = draw(0, 3, 9, 4)
    more = np.concatenate([weights, np.zeros_like(weights)], axis=3)
    both = np.concatenate([values, values[:, ::-1]], axis=1)
    np.testing.assert_array_equal(
        WeightedMean(9).accumulate(weights, values), WeightedMean(18).accumulate(more, both)
    )


def test_the_most_keys() -> None:
    """A sum just within 31 bits: all weights and values at their ends."""
    keys, op = 65793, WeightedMean(65793)
    assert op.bound((0, 255), (-128, 127)) == 255 * 128 * keys < 2**31
    weights = np.full((1, 1, 1, keys), 255)
    mean = op.accumulate(weights, np.full((1, keys, 1, 1), -128))
    assert mean.tolist() == [[[[-128 * 2**15]]]]


def test_what_cannot_be_is_refused() -> None:
    op = WeightedMean(4)
    with pytest.raises(InputError) as error:
        op.bound((-1, 3), (-128, 127))
    assert str(error.value) == "weights of a mean must have levels of at least 0, not -1"
    with pytest.raises(InputError, match="levels of a matrix must fit the signed 8 bits"):
        op.bound((0, 3), (-129, 127))
    with pytest.raises(InputError, match="must be of 4 channels and 4 pixels, not 3 and 4"):
        op.shape((2, 1, 3), (4, 1, 2))
