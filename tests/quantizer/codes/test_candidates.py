"""Codebooks of stored tensors: what always holds."""

from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.codes.candidates import offset_uniform, two_sided_power


@given(st.integers(2, 8), st.data(), st.floats(0.2, 1.2))
def test_signed_families_hold_zero_and_fit(bits: int, data: st.DataObject, exponent: float) -> None:
    below = data.draw(st.integers(0, 2**bits - 2))
    for codebook in (two_sided_power(bits, below, exponent), offset_uniform(bits, below)):
        assert 0 in codebook.levels
        assert len(codebook) <= 2**bits
