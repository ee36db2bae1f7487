"""Arrays of the host and maps: one order of numbers for each shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.host import as_maps, has_channels_last, host_shapes
from nupes.model.network import Output

SIZES = st.tuples(*[st.integers(1, 4)] * 3)


@given(SIZES)
def test_every_shape_of_the_host_is_a_map(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    maps = np.arange(2 * height * width * channels).reshape(2, channels, height, width)
    for size in host_shapes(shape):
        tokens = size == (height, channels) and height > 1
        given = (maps.transpose(0, 2, 3, 1) if tokens else maps).reshape(2, *size)
        np.testing.assert_array_equal(as_maps(given, shape), maps)
        np.testing.assert_array_equal(as_maps(torch.from_numpy(given), shape).numpy(), maps)


@given(SIZES)
def test_outputs_of_each_order(shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    y = np.arange(2 * height * width * channels).reshape(2, *shape)
    first, last = y.transpose(0, 3, 1, 2), y
    for size in ((height, width), (height * width,)):
        for order, result in (((channels, *size), first), ((*size, channels), last)):
            if has_channels_last(order, shape) == (result is last):
                found = Output("y", order).arrange(y)
                np.testing.assert_array_equal(found, result.reshape(2, *order))
    np.testing.assert_array_equal(
        Output("y", (channels * height * width,)).arrange(y), first.reshape(2, -1)
    )


@pytest.mark.parametrize(
    ("size", "shape", "last"),
    [
        ((7, 3), (7, 1, 3), True),
        ((3, 7), (7, 1, 3), False),
        ((3, 3), (3, 1, 3), True),
        ((3, 3), (1, 3, 3), False),
        ((12, 5), (3, 4, 5), True),
        ((3, 4, 5), (3, 4, 5), True),
        ((4, 4, 4), (4, 4, 4), False),
        ((60,), (3, 4, 5), False),
    ],
)
def test_what_could_be_either(
    size: tuple[int, ...], shape: tuple[int, int, int], last: bool
) -> None:
    assert has_channels_last(size, shape) is last
