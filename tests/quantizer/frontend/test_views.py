"""Views as selections and mosaics: the places that one has give it again, and nothing else does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.operators import Select
from nupes.quantizer.frontend.views import (
    channel_order,
    channels_first,
    find_mosaic,
    find_selection,
    in_order,
    last_places,
    own_places,
    without_repeats,
)

SHAPE = (5, 4, 3)
PLACES = own_places((3, 5, 4))


def cut(size: int) -> st.SearchStrategy[slice]:
    """Draw a slice that leaves something of an axis."""
    ends = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True).map(sorted)
    return st.builds(lambda pair, step: slice(*pair, step), ends, st.integers(1, 3))


@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), cut(5), cut(4))
def test_channels_and_slices_are_a_selection(channels: list[int], rows: slice, columns: slice):
    places = PLACES[channels][:, rows, columns]
    op = find_selection(places, SHAPE)
    assert op is not None
    whole = np.moveaxis(PLACES, 0, 2)[None]
    assert np.array_equal(np.moveaxis(op.accumulate(whole)[0], 2, 0), places)


@given(*(st.lists(st.integers(0, size - 1), min_size=1, max_size=7) for size in (3, 5, 4)))
def test_any_rows_columns_and_channels_are_a_mosaic(
    channels: list[int], rows: list[int], columns: list[int]
) -> None:
    places = PLACES[channels][:, rows][:, :, columns]
    op = find_mosaic(places, SHAPE)
    assert op is not None
    op.check()
    assert op.shape(SHAPE) == (len(rows), len(columns), len(channels))
    whole = np.moveaxis(PLACES, 0, 2)[None]
    assert np.array_equal(np.moveaxis(op.copy(whole)[0], 2, 0), places)


def test_what_a_strided_window_leaves_is_no_crop() -> None:
    assert find_selection(PLACES[:, ::2, ::3], SHAPE) == Select((0, 1, 2), (2, 3))
    assert find_selection(PLACES, SHAPE) == Select.every(3)


def test_other_orders_are_no_selection() -> None:
    for places in (
        PLACES[:, ::-1],
        PLACES[:, :, [0, 0, 1]],
        PLACES[:, [0, 1, 3]],
        PLACES.transpose(0, 2, 1),
        PLACES.reshape(3, 4, 5),
        PLACES.transpose(1, 2, 0).reshape(3, 5, 4),
    ):
        assert find_selection(places, SHAPE) is None
    for places in (PLACES.transpose(0, 2, 1), PLACES.reshape(3, 4, 5)):
        assert find_mosaic(places, SHAPE) is None


def test_orders_of_channels() -> None:
    assert np.array_equal(channel_order(PLACES[[2, 0, 1]], SHAPE), [2, 0, 1])  # type: ignore[arg-type]
    assert channel_order(PLACES[[2, 0, 0]], SHAPE) is None
    assert channel_order(PLACES[[2, 0, 1], 1:], SHAPE) is None
    assert in_order(PLACES.reshape(3, 2, 10), SHAPE)
    assert not in_order(PLACES[:2], SHAPE)
    assert not in_order(PLACES[[1, 0, 2]], SHAPE)


def test_channels_first_and_last() -> None:
    assert channels_first((3, 5, 4), SHAPE)
    assert channels_first((3, 20), SHAPE)
    assert not channels_first((15, 4), SHAPE)
    last = PLACES.transpose(1, 2, 0)
    assert np.array_equal(last_places((5, 4, 3), SHAPE), last)  # type: ignore[arg-type]
    assert np.array_equal(last_places((20, 3), SHAPE), last.reshape(20, 3))  # type: ignore[arg-type]
    assert last_places((3, 20), SHAPE) is None
    assert last_places((60,), SHAPE) is None


def test_repeats() -> None:
    once = np.arange(6).reshape(3, 1, 2)
    assert np.array_equal(without_repeats(np.broadcast_to(once, (3, 5, 2))), once)
