"""Mosaics of several grids: found from where the values of a view lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.quantizer.frontend.pieces import find_pieces

SIZES = st.integers(1, 3)


@given(st.permutations(range(5)), st.tuples(*[SIZES] * 5), st.integers(1, 3))
def test_what_is_found_moves_the_values_to_their_places(
    order: list[int], sizes: tuple[int, ...], factor: int
) -> None:
    """A shuffle by any factor whose channels stand in any order, or the way back."""
    channels, height, width = sizes[0], sizes[1], sizes[2]
    places = np.arange(channels * factor**2 * height * width)
    whole = places.reshape(factor, channels, factor, height, width)
    up = whole.transpose(1, 3, 0, 4, 2).reshape(channels, height * factor, width * factor)
    down = places.reshape(channels, height, factor, width, factor)
    ways = {
        "up": (up, (height, width, channels * factor**2)),
        "down": (
            down.transpose([axis for axis in order if axis not in (1, 3)] + [1, 3]).reshape(
                -1, height, width
            ),
            (height * factor, width * factor, channels),
        ),
    }
    for wanted, shape in ways.values():
        op = find_pieces(wanted, shape)
        assert op is not None
        op.check()
        assert op.shape(shape) == (*wanted.shape[1:], len(wanted))
        source = places.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)[None]
        np.testing.assert_array_equal(op.copy(source)[0].transpose(2, 0, 1), wanted)


def test_an_exchange_of_rows_and_columns_is_none() -> None:
    places = np.arange(3 * 11 * 13).reshape(3, 11, 13)
    assert find_pieces(places.transpose(0, 2, 1), (11, 13, 3)) is None
