"""STOREs in the stream engine: every word, in its cycle, with a memory that takes them or not."""

import random
from dataclasses import dataclass, replace
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.encoding import STORE
from nupes.arch.isa import (
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    INSTRUCTION,
    STORE_POSITION,
    Destination,
    pack,
)
from nupes.rtl.control.stream import StreamEngine
from tests.rtl.bench import execute
from tests.rtl.control.test_stream import EVERYWHERE, PLAIN, pack_defaults

STORES = replace(PLAIN, spills=True)


@dataclass
class StoredWord:
    """A word of a STORE: when it is issued, from where, and where it goes."""

    cycle: int
    address: int
    place: int
    end: bool


def expected_stores(stores: list[tuple[int, int, int]], ready: list[bool]) -> list[StoredWord]:
    """Return every word of STOREs, each of so many from an address to a place, with a memory that
    takes the first one that is there in the cycles in which it is ready."""
    words: list[StoredWord] = []
    taken: list[int] = []
    now = 1
    for address, place, count in stores:
        for index in range(count):
            while len(words) - sum(cycle < now for cycle in taken) == STORES.store_depth:
                now += 1
            words.append(StoredWord(now, address + index, place + index, index == count - 1))
            take = max(now + 2, taken[-1] + 1 if taken else 0)
            while not ready[take]:
                take += 1
            taken.append(take)
            now += 1
        now += 2  # it retires one cycle after its last word, which is seen in the next one
    return words


def observe_stores(
    stores: list[tuple[int, int, int]], ready: list[bool], cycles: int
) -> tuple[list[StoredWord], list[int]]:
    """Return every word of STOREs as the engine issues it, and all else that it says to somebody in
    one of these cycles."""
    engine, seen, others = StreamEngine(STORES), [], []
    layer = pack_defaults(EVERYWHERE) | {"out_width": 5, "width": 1, "height": 1}
    layer |= {"step_x": 1, "step_y": 5, "planes": 1, "pace": 3}

    async def bench(context: Any, reset: Signal) -> None:
        load = engine.load
        for index in range(DESCRIPTOR_WORDS):
            context.set(load.valid, 1)
            context.set(load.destination, Destination.DESCRIPTOR)
            context.set(load.address, index)
            context.set(load.data, pack(DESCRIPTOR, layer) >> (64 * index) & (2**64 - 1))
            await context.tick()
        context.set(load.valid, 0)
        context.set(engine.loaded, 0)
        there: list[int] = []
        number, retires = 0, -1
        for now in range(cycles):
            offered = number < len(stores)
            context.set(engine.tile.valid, offered)
            if offered:
                address, place, count = stores[number]
                tile = pack_defaults(INSTRUCTION) | STORE
                tile |= {"count": count, "address": address, "row_address": address}
                packed = pack(INSTRUCTION, tile) | place << STORE_POSITION
                context.set(engine.tile.payload.as_value(), packed)
            context.set(engine.retire, now == retires)
            takes = bool(there) and there[0] + 2 <= now and ready[now]
            context.set(engine.store_taken, takes)
            if takes:
                there.pop(0)
            if context.get(engine.issue):
                store = context.get(engine.store)
                assert store.valid
                seen.append(
                    StoredWord(now, context.get(engine.address), store.address, bool(store.end))
                )
                there.append(now)
                valid = engine.control.valid, engine.pool.valid, engine.feed.swap
                ports = engine.outputs.valid, engine.residuals.valid
                others.extend(context.get(signal) for signal in (*valid, *ports))
                if store.end:
                    retires = now + 1
            else:
                assert not context.get(engine.store).valid
            number += bool(offered and context.get(engine.tile.ready))
            await context.tick()

    execute(engine, bench)
    return seen, others


def check_stores(stores: list[tuple[int, int, int]], ready: list[bool]) -> list[StoredWord]:
    """Compare every word of STOREs with the rules; return them."""
    words = expected_stores(stores, ready)
    seen, others = observe_stores(stores, ready, words[-1].cycle + 8)
    assert seen == words
    assert not any(others)  # nothing of it goes to the array, the max-pool unit or the write-back
    return words


def test_a_ready_memory_takes_a_word_of_a_store_each_cycle() -> None:
    words = check_stores([(3, 2**31, 20)], [True] * 80)
    assert [word.cycle for word in words] == list(range(1, 21))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 2**32 - 20), st.integers(1, 12)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 2**32),
    st.sampled_from([0.2, 0.5, 0.9]),
)
def test_stores_wait_for_the_memory(
    stores: list[tuple[int, int, int]], seed: int, share: float
) -> None:
    chance = random.Random(seed)
    check_stores(stores, [chance.random() < share for _ in range(2000)])
