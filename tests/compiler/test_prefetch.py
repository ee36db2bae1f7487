"""LOADs move ahead, never past a tile that still uses what they overwrite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.compiler.prefetch import lag_after, prefetch
from nupes.compiler.steps import Step
from nupes.rtl.config import ArrayConfig
from nupes.rtl.isa import LAG_FREE, Opcode

CONFIG = ArrayConfig()


def tile(words: int, count: int) -> Step:
    """Return a TILE with a payload and a stream of so many words."""
    return Step({"opcode": Opcode.TILE}, words, count=count)


@st.composite
def programs(draw: st.DrawFn) -> list[Step]:
    """Draw tiles with the LOADs due before them."""
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 8))):
        for _ in range(draw(st.integers(0, 3))):
            user = draw(st.integers(-1, index - 1))
            words = draw(st.integers(1, 64))
            steps.append(Step({"opcode": Opcode.LOAD}, words, user=user, due=index))
        steps.append(tile(draw(st.integers(0, 32)), draw(st.integers(1, 100))))
    return [*steps, Step({"opcode": Opcode.END})]


@given(programs())
def test_every_load_comes_after_its_slots_last_user_and_before_its_tile(steps: list[Step]) -> None:
    moved = prefetch(steps, CONFIG)
    assert sorted(map(id, moved)) == sorted(map(id, steps))
    assert [s for s in moved if s.due < 0] == [s for s in steps if s.due < 0]
    tiles = 0
    for step in moved:
        if step.due >= 0:
            assert step.user < tiles <= step.due
            assert step.fields["lag"] == lag_after(step.user, tiles)
        tiles += bool(step.count)


def test_a_load_moves_to_the_stream_that_can_hide_it() -> None:
    load = Step({"opcode": Opcode.LOAD}, 40, user=-1, due=2)
    long, short, last = tile(16, 200), tile(16, 30), tile(16, 30)
    assert prefetch([tile(16, 30), long, load, short], CONFIG)[2] is load
    first = tile(16, 200)
    assert prefetch([first, short, load, last], CONFIG) == [first, load, short, last]


@pytest.mark.parametrize(
    ("user", "tiles", "lag"), [(-1, 5, LAG_FREE), (4, 5, 0), (0, 5, 4), (0, 90, 30)]
)
def test_a_lag_counts_the_tiles_after_the_one_that_must_retire(
    user: int, tiles: int, lag: int
) -> None:
    assert lag_after(user, tiles) == lag
