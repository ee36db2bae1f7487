"""Arrival: what comes before it is read, and overwrites nothing that is still to be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.arrival import Arrival
from nupes.compiler.emit.dependencies import Latest
from nupes.compiler.emit.instructions import Load
from nupes.compiler.place.layout import PatchLayout, blocks

Item = Load | tuple[int, range, bool]
"""A LOAD, or a tile: the first pixel of its block, what it reads, and whether it chases."""


def program(layout: PatchLayout, columns: int, passes: int) -> list[Item]:
    """Return what is emitted for a packed input whose runs each column tile reads ``passes``
    times."""
    arrival, items, tiles = Arrival(Latest(layout.base + layout.words)), [], 0
    for first, count in blocks(layout.pixels, layout.block):
        for word in [w for _ in range(columns) for w in range(layout.words_per_plane)]:
            each = 1 + layout.joined
            for plane in [p for _ in range(passes) for p in range(0, layout.planes, each)]:
                start = layout.address(plane, word, first)
                lower = layout.lower(first) * (plane + each <= layout.planes) * layout.joined
                stop = start + lower + count
                items += arrival.precede(first, (start, stop), tiles, lower + 1)
                items.append((first, range(start, stop), arrival.chases(tiles)))
                tiles += 1
                items += arrival.follow(tiles)
    return [*items, *arrival.flush(tiles)]


@st.composite
def layouts(draw: st.DrawFn) -> PatchLayout:
    """Draw a packed input, as a whole or some blocks at a time."""
    pixels, block = draw(st.integers(1, 20)), draw(st.integers(1, 6))
    held = draw(st.sampled_from([block, 2 * block, pixels]))
    shape, joined = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), draw(st.booleans())
    return PatchLayout(draw(st.integers(0, 5)), pixels, *shape, block, held, joined)


@given(layouts(), st.integers(1, 3), st.integers(1, 2))
def test_words_come_in_time_and_overwrite_what_was_read(
    layout: PatchLayout, columns: int, passes: int
) -> None:
    items = program(layout, columns, passes)
    order = iter(
        (first, address)
        for first, count in blocks(layout.pixels, layout.block)
        for address in range(
            layout.address(0, 0, first), layout.address(0, 0, first) + layout.block_words(count)
        )
    )
    held: dict[int, int] = {}  # the block of each word
    readers: dict[
        int, tuple[int, int]
    ] = {}  # the block of which a tile was the last to read a word
    pending: list[tuple[int, int, range]] = []  # tiles whose words have not all come
    tiles, chaser, pointer = 0, -1, 0
    for item in items:
        if isinstance(item, Load):
            retired = -1 if item.lag == LAG_FREE else tiles - 1 - item.lag
            assert all(tile > retired for tile, _, _ in pending), "waits for what it precedes"
            if item.address < pointer:
                assert retired >= chaser, "the pointer falls below what a tile chases"
            for address in range(item.address, item.address + item.words):
                first, expected = next(order)
                assert address == expected, "not in the order of the blocks"
                block, reader = readers.get(address, (first, -1))
                assert block == first or retired >= reader, "overwrites what is still to be read"
                held[address] = first
            pointer = item.address + item.words
            pending = [(t, b, run) for t, b, run in pending if any(held.get(a) != b for a in run)]
            continue
        first, run, chases = item
        missing = [address for address in run if held.get(address) != first]
        assert chases == bool(missing)
        if missing:
            assert pointer <= missing[0], "takes words of an earlier block for its own"
            pending.append((tiles, first, run))
            chaser = tiles
        readers |= dict.fromkeys(run, (first, tiles))
        tiles += 1
    assert not pending
    assert next(order, None) is None


@pytest.mark.parametrize(("held", "ahead"), [(8, 0), (4, 1)])
def test_only_a_falling_pointer_has_a_word_ahead_of_its_tile(held: int, ahead: int) -> None:
    """Two tiles, each of a block of one run of four words."""
    items = program(PatchLayout(0, 8, 1, 1, 4, held), 1, 1)
    words = [item.words if isinstance(item, Load) else 0 for item in items]
    assert words == ([0, 1, 3, 1, 0, 3] if ahead else [0, 1, 0, 4, 3])
