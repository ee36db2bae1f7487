"""Operators against plain loops: accumulators, max-pools, shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.codebook import table_codebook
from nupes.model.errors import InputError
from nupes.model.operators import AveragePool, Concat, Conv, MaxPool, Padding, Product, Select
from tests.model.reference import result_of

SEED = st.integers(0, 2**32 - 1)
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
PADDING = st.tuples(*[st.integers(0, 3)] * 4)
EXTREMES = table_codebook([-128, -5, 0, 127], 2)


@st.composite
def maps(draw: st.DrawFn, kernel: tuple[int, int], dilation: tuple[int, int], padding: Padding):
    """Draw levels (b, h, w, c) that the window fits into once they are padded."""
    least = [
        max(1, dilation[axis] * (kernel[axis] - 1) + 1 - sum(padding[2 * axis : 2 * axis + 2]))
        for axis in range(2)
    ]
    height, width = (draw(st.integers(size, size + 4)) for size in least)
    shape = draw(st.integers(1, 2)), height, width, draw(st.integers(1, 5))
    return np.random.default_rng(draw(SEED)).integers(-256, 256, shape)


def check(op: Conv | AveragePool | Select, levels: np.ndarray) -> None:
    """Compare an operator with its reference, from integers and from floats."""
    want = [result_of(op, image) for image in levels.tolist()]
    assert op.accumulate(levels).tolist() == want
    assert op.accumulate(levels.astype(np.float32)).tolist() == want
    assert op.shape(levels.shape[1:]) == np.shape(want)[1:]


@given(PAIR, PAIR, PAIR, PADDING, st.integers(1, 5), st.data())
def test_convolution(kernel, stride, dilation, padding, n, data: st.DataObject) -> None:
    levels = data.draw(maps(kernel, dilation, padding))
    rng = np.random.default_rng(data.draw(SEED))
    codes = rng.integers(0, 4, (n, levels.shape[3], *kernel)).astype(np.uint8)
    check(Conv(codes, EXTREMES, np.ones(n), stride, padding, dilation), levels)


@given(PAIR, PAIR, PADDING, st.integers(1, 3), st.integers(1, 2), st.data())
def test_grouped_convolution(
    kernel, stride, padding, groups, multiplier, data: st.DataObject
) -> None:
    levels = data.draw(maps(kernel, (1, 1), padding))
    per_group = levels.shape[3]
    levels = np.concatenate([levels + group for group in range(groups)], axis=3)
    rng = np.random.default_rng(data.draw(SEED))
    n = groups * multiplier
    codes = rng.integers(0, 4, (n, per_group, *kernel)).astype(np.uint8)
    check(Conv(codes, EXTREMES, np.ones(n), stride, padding, groups=groups), levels)


@given(PAIR, PAIR, PADDING, st.data())
def test_average_pool(kernel, stride, padding, data: st.DataObject) -> None:
    check(AveragePool(kernel, stride, padding), data.draw(maps(kernel, (1, 1), padding)))


SIDES = st.tuples(*[st.integers(-1, 2)] * 4)


@given(PAIR, SIDES, st.data())
def test_select(stride: tuple[int, int], padding: Padding, data: st.DataObject) -> None:
    levels = data.draw(maps((3, 3), (1, 1), (0, 0, 0, 0)))
    numbers = st.lists(st.integers(-1, levels.shape[3] - 1), min_size=1, max_size=8)
    check(Select(tuple(data.draw(numbers)), stride, padding), levels)


def test_selections_and_crops_that_do_not_fit_are_refused() -> None:
    for op, message in (
        (Select((0, 3)), "selected channels must lie in the input's 3, not be 3"),
        (Select((0,), padding=(-1, -1, 0, 0)), "a crop must leave some of 2 (axis h)"),
        (AveragePool((1, 1), (1, 1), (0, 0, -2, 3)), "a crop must leave some of 2 (axis w)"),
    ):
        with pytest.raises(InputError) as error:
            op.shape((2, 2, 3))
        assert str(error.value) == message
    with pytest.raises(InputError) as error:
        Select((-2,)).check()
    assert str(error.value) == "selected channels must be integers in -1..1048575, not -2"


@given(PAIR, PAIR, PAIR, st.data())
def test_max_pool(kernel, stride, dilation, data: st.DataObject) -> None:
    # Padding of less than a tap's reach: each window has a real tap.
    reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 0, 1, 1)]
    padding = data.draw(st.tuples(*[st.integers(0, most) for most in reach]))
    op = MaxPool(kernel, stride, padding, dilation)
    codes = data.draw(maps(kernel, dilation, padding)) & 255
    try:
        want = [result_of(op, image) for image in codes.tolist()]
    except ValueError:
        with pytest.raises(InputError, match="every max-pool window must hold a real tap"):
            op.shape(codes.shape[1:])
        return
    got = op.copy(codes.astype(np.uint8))
    assert got.dtype == np.uint8
    assert got.tolist() == want


@given(
    st.tuples(*[st.integers(1, 4)] * 2), st.lists(st.integers(1, 4), min_size=2, max_size=4), SEED
)
def test_concat(size: tuple[int, int], channels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, (2, *size, c)).astype(np.uint8) for c in channels]
    got = Concat().copy(*parts)
    assert got.dtype == np.uint8
    assert got.tolist() == [
        result_of(Concat(), *maps) for maps in zip(*(p.tolist() for p in parts), strict=True)
    ]
    assert Concat().shape(*(part.shape[1:] for part in parts)) == got.shape[1:]


@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.booleans()] * 3), SEED)
def test_product(shape: tuple[int, int, int], served: tuple[bool, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width, channels = (1 if s else n for s, n in zip(served, shape, strict=True))
    size = height, width, channels
    factor, whole = rng.integers(-256, 256, (2, *size)), rng.integers(-256, 256, (2, *shape))
    want = [
        result_of(Product(), *maps) for maps in zip(factor.tolist(), whole.tolist(), strict=True)
    ]
    assert Product().accumulate(factor, whole).tolist() == want
    floats = (part.astype(np.float32) for part in (factor, whole))
    assert Product().accumulate(*floats).tolist() == want
    assert Product().shape(size, shape) == shape
    assert Product().bound((-256, 255), (-256, 255)) == 65536


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError) as error:
        Concat().shape((4, 4, 1), (4, 3, 1))
    assert str(error.value) == (
        "concatenated maps must have one height and width, not ((4, 4, 1), (4, 3, 1))"
    )
    with pytest.raises(InputError) as error:
        Product().shape((4, 4, 2), (4, 4, 3))
    assert str(error.value) == (
        "the first factor of a product must have each size of the second one, (4, 4, 3), or 1, "
        "not (4, 4, 2)"
    )


def test_max_pool_skips_padding_where_every_code_is_0() -> None:
    op = MaxPool((3, 3), (1, 1), (1, 1, 1, 1))
    assert op.copy(np.zeros((1, 1, 1, 1), np.uint8)).tolist() == [[[[0]]]]


def test_padding_is_level_0_even_without_a_zero_in_the_table() -> None:
    codes = np.zeros((1, 1, 3, 3), np.uint8)
    op = Conv(codes, table_codebook([7], 1), np.ones(1), padding=(1, 1, 1, 1))
    assert op.accumulate(np.full((1, 1, 1, 1), 5)).tolist() == [[[[35]]]]


def test_a_wide_convolution_stays_exact() -> None:
    """A sum beyond float32's integers, at the ends of both ranges."""
    channels = 1024
    codes = np.zeros((1, channels, 1, 1), np.uint8)
    op = Conv(codes, table_codebook([-127], 1), np.ones(1))
    levels = np.full((1, 1, 1, channels), 255)
    levels[..., 0] = 254
    assert op.accumulate(levels).tolist() == [[[[-127 * (255 * channels - 1)]]]]


def test_windows_must_fit() -> None:
    with pytest.raises(InputError) as error:
        MaxPool((3, 3), (1, 1), dilation=(1, 2)).shape((4, 4, 1))
    assert str(error.value) == "window of 5 must fit the padded input of 4 (axis w)"


def test_channels_must_match() -> None:
    op = Conv(np.zeros((4, 2, 1, 1), np.uint8), EXTREMES, np.ones(4), groups=2)
    with pytest.raises(InputError) as error:
        op.shape((1, 1, 3))
    assert str(error.value) == "convolution expects 4 input channels, not 3"
