"""Packing of words and of the network input."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import PatchLayout, TensorLayout
from nupes.compiler.place.packing import pack_words, patch_input, plain_input, zero_digits
from nupes.model.codebook import ACTIVATION_LEVELS, Codebook, table_codebook
from nupes.model.operators import Conv
from nupes.model.planes import split_planes
from tests.assemble import coded
from tests.codebooks import activation_codebooks
from tests.model.test_planes import full_tables

SEED = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([(2, 2), (4, 4), (2, 8), (8, 4), (16, 16), (64, 64)])
ARRAYS = st.builds(lambda s, b: ArrayConfig(*s, code_bits=b), SIZES, st.integers(2, 8))


def integers(words: np.ndarray) -> list[int]:
    """Return port words as Python integers."""
    return [sum(int(part) << (64 * i) for i, part in enumerate(word)) for word in words]


def digits_of(word: int, config: ArrayConfig) -> list[int]:
    """Return the digits in a word, one per lane."""
    mask = (1 << config.code_bits) - 1
    return [word >> (config.code_bits * lane) & mask for lane in range(config.lanes)]


@given(ARRAYS, st.integers(1, 9), st.data())
def test_words_hold_digits_side_by_side(
    config: ArrayConfig, count: int, data: st.DataObject
) -> None:
    width = data.draw(st.integers(1, config.lanes))
    rng = np.random.default_rng(data.draw(SEED))
    digits = rng.integers(0, 1 << config.code_bits, (count, width)).astype(np.uint8)
    words = pack_words(digits, config)
    assert words.dtype == np.uint64
    assert words.shape == (count, -(-config.port_bits // 64))
    for word, row in zip(integers(words), digits.tolist(), strict=True):
        assert word == sum(digit << (config.code_bits * lane) for lane, digit in enumerate(row))


@given(activation_codebooks() | full_tables(ACTIVATION_LEVELS), st.integers(2, 8))
@example(table_codebook([-3, -2, -1, 1, 2], 3), 2)
def test_zero_digits_add_up_to_nothing(book: Codebook, code_bits: int) -> None:
    planes = split_planes(book, code_bits)
    found = zero_digits(planes, book.levels)
    if found is None:
        # One plane without a zero or a free code, or planes whose span leaves 0 out.
        assert 0 not in book.levels
        assert planes.count > 1 or len(book) == 1 << code_bits
        return
    tables, digits = found
    assert sum(int(t[d]) for t, d in zip(tables, digits.tolist(), strict=True)) == 0
    # The levels of all codes are as before.
    for plane in range(planes.count):
        used = planes.digits[:, plane]
        np.testing.assert_array_equal(tables[plane][used], planes.tables[plane][used])
    assert tables.min() >= -256
    assert tables.max() <= 255


@pytest.mark.parametrize(
    ("levels", "digits"),
    [([0, 1], [0]), ([-3, 0, 4], [1]), ([1, 2, 3], [3]), ([1, 2, 3, 4], None)],
)
def test_zero_of_a_single_plane(levels: list[int], digits: list[int] | None) -> None:
    book = table_codebook(levels, 2)
    found = zero_digits(split_planes(book, 2), book.levels)
    assert (None if found is None else found[1].tolist()) == digits


@given(ARRAYS, activation_codebooks(), SEED, st.data())
def test_plain_input_is_a_tensor_in_memory(
    config: ArrayConfig, book: Codebook, seed: int, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    channels = data.draw(st.integers(1, 2 * config.lanes + 1))
    tensor = coded("x", (height, width, channels), book)
    planes = split_planes(book, config.code_bits)
    groups = -(-channels // config.lanes)
    layout = TensorLayout.whole(0, height, width, groups, planes.count)
    codes = np.random.default_rng(seed).integers(0, len(book), tensor.shape).astype(np.uint8)
    words = integers(plain_input(tensor, layout, config).words(codes, config))
    assert len(words) == layout.words
    for plane in range(planes.count):
        for y, x, c in np.ndindex(*tensor.shape):
            word = words[layout.address(plane, c // config.lanes, y, x)]
            digit = digits_of(word, config)[c % config.lanes]
            assert digit == planes.digits[codes[y, x, c], plane]


@given(
    ARRAYS, activation_codebooks(), SEED, st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 2)] * 6), st.tuples(*[st.integers(0, 2)] * 4), st.integers(4, 9),
)  # fmt: skip
def test_patches_hold_the_operands_of_every_pixel(
    config: ArrayConfig, book: Codebook, seed: int, shape: tuple[int, int, int],
    steps: tuple[int, ...], padding: tuple[int, int, int, int], block: int,
) -> None:  # fmt: skip
    planes = split_planes(book, config.code_bits)
    found = zero_digits(planes, book.levels)
    assume(found is not None)
    assert found is not None
    tables, zero = found
    kernel, stride, dilation = steps[:2], (steps[2], steps[3]), (steps[4], steps[5])
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in range(2)]
    assume(reach[0] <= shape[0] + sum(padding[:2]) and reach[1] <= shape[1] + sum(padding[2:]))
    tensor = coded("x", shape, book)
    weights = np.zeros((1, shape[2], *kernel), np.uint8)
    op = Conv(weights, table_codebook([1], 1), np.ones(1), stride, padding, dilation)
    oh, ow, _ = op.shape(shape)
    taps = [(ky, kx) for ky in range(kernel[0]) for kx in range(kernel[1])]
    words_per_pixel = -(-len(taps) * shape[2] // config.lanes)
    layout = PatchLayout(0, oh * ow, words_per_pixel, planes.count, block, oh * ow, config.joins)
    codes = np.random.default_rng(seed).integers(0, len(book), shape).astype(np.uint8)
    words = integers(patch_input(tensor, op, layout, zero, config).words(codes, config))
    assert len(words) == layout.words
    levels = book.levels[codes]
    for pixel in range(oh * ow):
        first = pixel // block * block
        got = np.zeros(words_per_pixel * config.lanes, np.int64)
        for plane in range(planes.count):
            addresses = [
                layout.address(plane, word, first) + pixel - first
                for word in range(words_per_pixel)
            ]
            digits = [digit for a in addresses for digit in digits_of(words[a], config)]
            got += tables[plane][digits]
        for tap, (ky, kx) in enumerate(taps):
            y = pixel // ow * stride[0] + ky * dilation[0] - padding[0]
            x = pixel % ow * stride[1] + kx * dilation[1] - padding[2]
            inside = 0 <= y < shape[0] and 0 <= x < shape[1]
            want = levels[y, x].tolist() if inside else [0] * shape[2]
            assert got[tap * shape[2] : (tap + 1) * shape[2]].tolist() == want
