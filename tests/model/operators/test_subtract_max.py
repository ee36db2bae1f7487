"""Distances from the largest channel, against plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.arithmetic import requantize
from nupes.model.operators import SubtractMax
from nupes.model.operators.subtract_max import MASKED
from tests.model.reference import result_of

SHAPE = st.tuples(*[st.integers(1, 4)] * 4)
SEED = st.integers(0, 2**32 - 1)


@given(SHAPE, st.sampled_from([3, 32768]), SEED)
def test_distances(shape: tuple[int, ...], spread: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-spread, spread, shape).astype(np.int16)
    op = SubtractMax()
    got = op.accumulate(values)
    assert got.tolist() == [result_of(op, image) for image in values.tolist()]
    assert ((got.max(axis=3) == 0) | (values.max(axis=3) == MASKED)).all()
    assert np.abs(got).max() <= op.bound((-32768, 32767)) == 65536
    assert op.bound((-32767, 32767)) == 65534
    assert op.shape((1, 2, 3)) == (1, 2, 3)


@given(SHAPE, SEED)
def test_the_order_of_keys_does_not_matter(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-32768, 32768, shape).astype(np.int16)
    order = rng.permutation(shape[3])
    got = SubtractMax().accumulate(values)[..., order]
    np.testing.assert_array_equal(got, SubtractMax().accumulate(values[..., order]))


def test_the_requantization_of_one_saturates_below() -> None:
    """``max(s - M, -32768)``, as ``y``."""
    scores = np.array([32767, -32768, -1, 0], np.int16).reshape(1, 1, 1, 4)
    one = np.ones(4, np.int64)
    y = requantize(SubtractMax().accumulate(scores), 2 * one, 0 * one, one)
    assert y.reshape(-1).tolist() == [0, -32768, -32768, -32767]
