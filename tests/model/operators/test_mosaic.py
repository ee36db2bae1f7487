"""Mosaics: pieces stand at their places, each value once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.model.errors import InputError
from nupes.model.operators import Mosaic, Piece
from tests.model.reference import result_of
from tests.mosaics import mosaics

SHAPES = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3
)

PIECE = Piece(0, (1, 2, 2), (0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1))
"""A row of two pixels of two channels."""

ROW = (1, 2, 2)


@given(st.data(), SHAPES, st.integers(0, 1000))
def test_pieces_stand_at_their_places(
    data: st.DataObject, shapes: list[tuple[int, int, int]], seed: int
) -> None:
    op, rng = data.draw(mosaics(shapes)), np.random.default_rng(seed)
    maps = [rng.integers(0, 256, (2, *shape)).astype(np.uint8) for shape in shapes]
    found = op.copy(*maps)
    assert op.shape(*shapes) == op.size == found.shape[1:]
    for image in range(2):
        expected = result_of(op, *(part[image].tolist() for part in maps))
        assert found[image].tolist() == expected


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing": ([], r"each pixel of a mosaic must be of one piece, not pixel \(0, 0\) of 0"),
    "twice": ([{}, {}], r"each channel of a grid of a mosaic must be of one piece, not .* of 2"),
    "overlapping": (
        [{}, {"count": (1, 1, 2)}],
        r"each pixel of a mosaic must be of one piece, not pixel \(0, 0\) of 2",
    ),
    "a channel left out": (
        [{"count": (1, 2, 1)}],
        r"each channel of a grid of a mosaic must be of one piece, not .* \(1, 0\) of 0",
    ),
    "outside": ([{"to": (0, 1, 0)}], "a piece must lie in its result of 2, not reach 2"),
    "no step": ([{"to_step": (1, 0, 1)}], "to_step must be 3 integers in 1..1048576, not"),
    "a half": ([{"at_step": (1, 0.5, 1)}], "at_step must be 3 integers in -1048576..1048576, not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pieces_that_are_no_map_are_refused(name: str) -> None:
    changes, message = REFUSED[name]
    op = Mosaic(ROW, tuple(replace(PIECE, **change) for change in changes))
    with pytest.raises(InputError, match=message):
        op.check()


def test_pieces_beyond_an_input_are_refused() -> None:
    op = Mosaic(ROW, (PIECE,))
    with pytest.raises(InputError, match=r"input of 1 \(axis w\), not reach from 0 to 1"):
        op.shape((1, 1, 2))
    with pytest.raises(InputError, match="source must be below 1 inputs, not 1"):
        Mosaic(ROW, (replace(PIECE, source=1),)).shape((1, 2, 2))
