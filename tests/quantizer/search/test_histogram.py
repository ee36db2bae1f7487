"""A sample's errors against all values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.codes.candidates import offset_uniform
from nupes.quantizer.search.histogram import Sample
from tests.quantizer.close import rounding_error


@given(st.integers(2, 8), st.floats(1e-3, 10), st.integers(0, 2**31))
def test_sample_error_is_the_mean_squared_error(bits: int, scale: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=200)
    codebook = offset_uniform(bits, 2 ** (bits - 1))
    expected = rounding_error(values, codebook, scale)
    assert Sample(values).error(codebook, scale) == pytest.approx(expected, rel=1e-9, abs=1e-12)
