"""Products of two maps as matrices, against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError
from nupes.model.operators import Matmul
from tests.model.reference import result_of

SIZE = st.integers(1, 4)
SEED = st.integers(0, 2**32 - 1)


@given(SIZE, SIZE, SIZE, SIZE, SIZE, st.booleans(), SEED)
def test_products(h: int, w: int, rows: int, columns: int, k: int, turned: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = rng.integers(-128, 128, (2, rows, columns, k))
    terms = k if turned else rows * columns
    source = rng.integers(-256, 256, (2, h, w, terms))
    op = Matmul(terms, turned)
    want = [result_of(op, *maps) for maps in zip(source.tolist(), other.tolist(), strict=True)]
    assert op.accumulate(source, other).tolist() == want
    bound = op.bound((-256, 255), (-128, 127))
    floats = (part.astype(np.float32) for part in (source, other))
    assert op.accumulate(*floats, bound=bound).tolist() == want
    assert op.shape(source.shape[1:], other.shape[1:]) == np.shape(want)[1:]
    assert op.macs(source.shape[1:], other.shape[1:]) == h * w * terms * np.shape(want)[3]


@given(st.integers(1, 40), st.booleans())
def test_extreme_levels_reach_the_bound(terms: int, turned: bool) -> None:
    source = np.full((1, 1, 1, terms), -256)
    other = np.full((1, 1, 1, terms) if turned else (1, terms, 1, 1), -128)
    op = Matmul(terms, turned)
    assert op.accumulate(source, other).tolist() == [[[[op.bound((-256, 255), (-128, 127))]]]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError) as error:
        Matmul(3, True).shape((2, 1, 3), (4, 1, 2))
    assert str(error.value) == (
        "a product of 3 terms must be of 3 channels and 3 channels, not 3 and 2"
    )
    with pytest.raises(InputError, match="must be of 3 channels and 3 pixels, not 3 and 4"):
        Matmul(3, False).shape((2, 1, 3), (2, 2, 2))
    with pytest.raises(InputError, match=r"terms must be an integer in 1\.\.1048576, not 0"):
        Matmul(0, False).check()
    with pytest.raises(InputError) as error:
        Matmul(3, False).bound((-256, 255), (0, 128))
    text = "levels of a matrix must fit the signed 8 bits of weights, not 0..128"
    assert str(error.value) == text
