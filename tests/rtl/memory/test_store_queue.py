"""The store queue: every word once, in order, as early as it is taken."""

import random

from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.rtl.interface import StoreControl
from nupes.rtl.memory.store_queue import StoredWord, StoreQueue
from tests.networks import many
from tests.rtl.testbench import simulate

CONFIG = ArrayConfig(4, 4, spills=True)


def drive(issues: list[tuple[int, int] | None], ready: list[int]) -> dict[str, list[int]]:
    """Return the outputs of a queue for words (address, data) issued in some cycles: in the next
    one the memory gives the data."""
    layout, cycles, word = StoreControl(), [], 0
    for item, taken in zip(issues, ready, strict=True):
        address = 0 if item is None else item[0]
        control = {"valid": int(item is not None), "end": address & 1, "address": address}
        cycles.append(
            {"control": layout.const(control).as_bits(), "word": word, "stored.ready": taken}
        )
        word = 0 if item is None else item[1]
    outputs = ("stored.valid", "stored.payload", "taken", "empty", "retire")
    last = {"control": 0, "word": word, "stored.ready": 0}
    return simulate(StoreQueue(CONFIG), [*cycles, last], outputs)


def reference(issues: list[tuple[int, int] | None], ready: list[int]) -> dict[str, list[int]]:
    """Return what the outputs must be."""
    queue: list[int] = []
    found: dict[str, list[int]] = {name: [] for name in ("valid", "payload", "taken", "retire")}
    layout, before = StoredWord(CONFIG), None
    for item, taken in zip([*issues, None], [*ready, 0], strict=True):
        found["valid"].append(int(bool(queue)))
        found["payload"].append(queue[0] if queue else 0)
        found["taken"].append(int(bool(queue) and taken))
        found["retire"].append(int(before is not None and before[0] & 1))
        if queue and taken:
            queue.pop(0)
        if before is not None:
            word = {"address": before[0], "data": before[1]}
            queue.append(layout.const(word).as_bits())
        before = item
    return found


def compare(issues: list[tuple[int, int] | None], ready: list[int]) -> None:
    """Compare a queue with its reference."""
    seen, want = drive(issues, ready), reference(issues, ready)
    assert seen["stored.valid"] == want["valid"]
    assert seen["empty"] == [1 - valid for valid in want["valid"]]
    assert seen["taken"] == want["taken"]
    assert seen["retire"] == want["retire"]
    payloads = zip(seen["stored.payload"], want["payload"], want["valid"], strict=False)
    assert all(got == word for got, word, valid in payloads if valid)


def test_a_ready_memory_takes_a_word_each_cycle() -> None:
    chance = random.Random(0)
    compare([(chance.getrandbits(32), chance.getrandbits(16)) for _ in range(40)], [1] * 40)


@given(st.data())
@many(20)
def test_words_wait_for_the_memory(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    ready = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    wanted = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    chance, issues, owed = random.Random(data.draw(st.integers(0, 99))), [], []
    for cycle, want in enumerate(wanted):
        # As the stream engine counts: words issued before, and not taken before.
        seen = reference([*issues], ready[: len(issues)])["taken"]
        owed = sum(item is not None for item in issues) - sum(seen[:cycle])
        room = want and owed < CONFIG.store_depth
        issues.append((chance.getrandbits(32), chance.getrandbits(16)) if room else None)
    compare(issues, ready)
