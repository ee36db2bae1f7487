"""LOADs move ahead, never past a tile that still uses what they overwrite."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.dependencies import lag_after
from nupes.compiler.emit.descriptors import Descriptor, Results
from nupes.compiler.emit.hoisting import prefetch
from nupes.compiler.emit.instructions import (
    End,
    Instruction,
    Load,
    Pool,
    Tile,
    TileSlots,
)
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.lowering.walks import Start, line_walk

CONFIG = ArrayConfig()


def tile(words: int, count: int) -> Tile:
    """Return a TILE with a payload and a stream of so many words."""
    return Tile(
        start=Start(0, 0),
        descriptor=Descriptor(line_walk(count), Results()),
        slots=TileSlots(descriptor=0),
        count=count,
        payload=Payload(words, False, lambda: np.zeros((words, 1), np.uint64)),
        first=True,
        finish=True,
    )


def load(words: int, user: int, due: int, address: int = 0) -> Load:
    """Return a LOAD whose words are their own places in it."""
    return Load(
        destination=Destination.WEIGHT_TABLE,
        address=address,
        words=words,
        payload=lambda: np.arange(words),
        user=user,
        due=due,
    )


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Draw tiles with the LOADs due before them."""
    items: list[Instruction] = []
    for index in range(draw(st.integers(1, 8))):
        for _ in range(draw(st.integers(0, 3))):
            user = draw(st.integers(-1, index - 1))
            words = draw(st.integers(1, 64))
            items.append(load(words, user, index, address=draw(st.integers(0, 99))))
        items.append(tile(draw(st.integers(0, 32)), draw(st.integers(1, 100))))
    return [*items, End()]


def loads_of(program: list[Instruction]) -> list[Load]:
    """Return the LOADs of tables and parameters."""
    return [item for item in program if isinstance(item, Load)]


def words_of(program: list[Instruction]) -> list[tuple[int, int, int]]:
    """Return the due tile, the address and the value of every word that is loaded."""
    return sorted(
        (item.due, item.address + offset, int(value))
        for item in loads_of(program)
        if item.payload is not None
        for offset, value in enumerate(item.payload())
    )


@given(programs())
def test_every_word_comes_after_its_slots_last_user_and_before_its_tile(
    program: list[Instruction],
) -> None:
    before = list(program)
    moved = prefetch(program, CONFIG)
    assert program == before
    assert words_of(moved) == words_of(program)
    others = [item for item in program if not isinstance(item, Load)]
    assert [item for item in moved if not isinstance(item, Load)] == others
    tiles = 0
    for item in moved:
        if isinstance(item, Load):
            assert item.payload is not None
            assert item.words == len(item.payload()) > 0
            assert item.user < tiles <= item.due
            assert item.lag == lag_after(item.user, tiles)
        tiles += isinstance(item, Tile | Pool)


def places(program: list[Instruction]) -> list[int]:
    """Return the words of the LOADs before each tile."""
    counts = [0]
    for item in prefetch(program, CONFIG):
        if isinstance(item, Load):
            counts[-1] += item.words
        counts += [0] if isinstance(item, Tile) else []
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
