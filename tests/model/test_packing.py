"""Packed codes against strings of bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import ArtifactError
from nupes.model.packing import pack_codes, unpack_codes


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 5), max_size=4))
def test_codes_are_packed_to_their_bits(bits: int, seed: int, shape: list[int]) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint8)
    packed = pack_codes(codes, bits)
    text = "".join(f"{code:0{bits}b}"[::-1] for code in codes.reshape(-1).tolist())
    want = [int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8)]
    assert packed.tolist() == want
    np.testing.assert_array_equal(unpack_codes(packed, bits, tuple(shape)), codes)


def test_known_packing() -> None:
    assert pack_codes(np.array([1, 2, 3]), 3).tolist() == [0b11_010_001, 0b0]
    assert pack_codes(np.array([0xA, 0x5, 0xF]), 4).tolist() == [0x5A, 0x0F]


@pytest.mark.parametrize("shape", [(5,), (2**40, 2**40)])
def test_wrong_length_of_packed_codes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArtifactError) as error:
        unpack_codes(np.zeros(3, np.uint8), 3, shape)
    count = 5 if shape == (5,) else 2**80
    assert str(error.value) == (
        f"{count} codes of 3 bits must take {-(-count * 3 // 8)} bytes, not 3"
    )


def test_the_last_byte_is_filled_with_zeros() -> None:
    packed = pack_codes(np.array([1, 2, 3]), 3)
    packed[-1] |= 0b10
    with pytest.raises(ArtifactError) as error:
        unpack_codes(packed, 3, (3,))
    assert str(error.value) == "the last byte of packed codes must be filled up with zeros"
