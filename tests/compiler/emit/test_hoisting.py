"""LOADs move ahead, never past a tile that still uses what they overwrite."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE, Opcode
from nupes.compiler.emit.hoisting import lag_after, prefetch
from nupes.compiler.emit.steps import Step

CONFIG = ArrayConfig()


def tile(words: int, count: int) -> Step:
    """Return a TILE with a payload and a stream of so many words."""
    return Step({"opcode": Opcode.TILE}, words, count=count)


def load(words: int, user: int, due: int, address: int = 0) -> Step:
    """Return a LOAD whose words are their own places in it."""
    fields = {"opcode": Opcode.LOAD, "count": words, "address": address}
    return Step(fields, words, lambda: np.arange(words), user=user, due=due)


@st.composite
def programs(draw: st.DrawFn) -> list[Step]:
    """Draw tiles with the LOADs due before them."""
    steps: list[Step] = []
    for index in range(draw(st.integers(1, 8))):
        for _ in range(draw(st.integers(0, 3))):
            user = draw(st.integers(-1, index - 1))
            words = draw(st.integers(1, 64))
            steps.append(load(words, user, index, address=draw(st.integers(0, 99))))
        steps.append(tile(draw(st.integers(0, 32)), draw(st.integers(1, 100))))
    return [*steps, Step({"opcode": Opcode.END})]


def words_of(steps: list[Step]) -> list[tuple[int, int, int]]:
    """Return the due tile, the address and the value of every word that is loaded."""
    return sorted(
        (step.due, step.fields["address"] + offset, int(value))
        for step in steps
        if step.payload is not None
        for offset, value in enumerate(step.payload())
    )


@given(programs())
def test_every_word_comes_after_its_slots_last_user_and_before_its_tile(steps: list[Step]) -> None:
    moved = prefetch(steps, CONFIG)
    assert words_of(moved) == words_of(steps)
    assert [s for s in moved if s.due < 0] == [s for s in steps if s.due < 0]
    tiles = 0
    for step in moved:
        if step.due >= 0:
            assert step.payload is not None
            assert step.words == step.fields["count"] == len(step.payload()) > 0
            assert step.user < tiles <= step.due
            assert step.fields["lag"] == lag_after(step.user, tiles)
        tiles += bool(step.count)


def places(steps: list[Step]) -> list[int]:
    """Return the words of the LOADs before each tile."""
    counts = [0]
    for step in prefetch(steps, CONFIG):
        counts[-1] += step.words if step.due >= 0 else 0
        counts += [0] if step.count else []
    return counts


def test_a_load_moves_to_the_nearest_streams_that_can_hide_it() -> None:
    late = load(40, user=-1, due=2)
    long, short, last = tile(16, 200), tile(16, 30), tile(16, 30)
    assert places([tile(16, 30), long, late, short])[:3] == [0, 0, 40]
    assert places([long, short, late, last])[:3] == [0, 40, 0]


def test_a_load_that_fits_nowhere_moves_in_parts() -> None:
    late = load(100, user=-1, due=4)
    preparation = CONFIG.instruction_words + 1 + 16
    room = tile(16, preparation + CONFIG.instruction_words + 1 + 30)
    # What is left over stays, and so do parts that would be too small for an instruction.
    little = tile(16, preparation + CONFIG.instruction_words + 1 + 5)
    assert places([room, room, room, room, late, room])[:5] == [0, 30, 30, 30, 10]
    assert places([room, little, room, little, late, room])[:5] == [0, 30, 0, 30, 40]


@pytest.mark.parametrize(
    ("user", "tiles", "lag"), [(-1, 5, LAG_FREE), (4, 5, 0), (0, 5, 4), (0, 90, 30)]
)
def test_a_lag_counts_the_tiles_after_the_one_that_must_retire(
    user: int, tiles: int, lag: int
) -> None:
    assert lag_after(user, tiles) == lag
