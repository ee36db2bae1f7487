"""Dependencies: counted waits for the tile that last wrote what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.dependencies import Latest, lag_after


@pytest.mark.parametrize(
    ("user", "tiles", "lag"), [(-1, 5, LAG_FREE), (4, 5, 0), (0, 5, 4), (0, 90, 30)]
)
def test_a_lag_counts_the_tiles_after_the_one_that_must_retire(
    user: int, tiles: int, lag: int
) -> None:
    assert lag_after(user, tiles) == lag


def test_a_tile_waits_for_the_newest_writer_of_what_it_reads() -> None:
    writers = Latest(8)
    assert writers.lag([(0, 8)], 0) == LAG_FREE
    writers.note([(0, 2), (4, 6)], 0)
    writers.note([(5, 7)], 1)
    assert writers.lag([(2, 4), (7, 8), (3, 3)], 2) == LAG_FREE
    assert writers.lag([(0, 5)], 2) == lag_after(0, 2)
    assert writers.lag([(0, 2), (5, 6)], 2) == lag_after(1, 2)


RUNS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=3)


@given(st.lists(st.tuples(RUNS, RUNS), max_size=9))
def test_the_newest_user_is_that_of_each_word(tiles: list[tuple[list, list]]) -> None:
    latest, words = Latest(8), [-1] * 8
    for tile, (asked, noted) in enumerate(tiles):
        if asked:
            users = [words[word] for first, stop in asked for word in range(first, stop)]
            assert latest.newest(asked) == max(users, default=-1)
        latest.note(noted, tile)
        for first, stop in noted:
            words[first:stop] = [tile] * len(words[first:stop])
