"""The gearbox against the bytes that pass it."""

import random
from typing import Any

import pytest
from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.rtl.bus.gearbox import Gearbox
from tests.rtl.bench import execute

WIDTHS = st.sampled_from([16, 32, 64, 96, 104, 128, 192, 256])


def turn(
    box: Gearbox, words: list[int], give: float = 1, take: float = 1, seed: int = 0
) -> tuple[list[tuple[int, int]], int]:
    """Return what comes out for some words, as data and bytes, and the cycles that it took; words
    are given and taken so often."""
    chance, out, cycles = random.Random(seed), [], 0

    async def bench(context: Any, reset: Signal) -> None:
        nonlocal cycles
        waiting = list(words)
        offered = False
        while cycles < 100 * len(words) + 100:
            offered = bool(waiting) and (offered or chance.random() < give)
            context.set(box.input.valid, offered)
            context.set(box.input.payload, waiting[0] if offered else chance.getrandbits(16))
            context.set(box.output.ready, chance.random() < take)
            context.set(box.flush, not waiting)
            if not waiting and context.get(box.empty):
                return
            if context.get(box.output.valid) and context.get(box.output.ready):
                piece = context.get(box.output.payload)
                out.append((int(piece["data"]), int(piece["bytes"])))
            if offered and context.get(box.input.ready):
                waiting.pop(0)
                offered = False
            await context.tick()
            cycles += 1
        raise AssertionError("words stay in the gearbox")

    execute(box, bench)
    return out, cycles


def check(given_bits: int, taken_bits: int, count: int, seed: int, **often: float) -> int:
    """Compare the bytes that go in with those that come out; return the cycles."""
    chance = random.Random(seed)
    words = [chance.getrandbits(given_bits) for _ in range(count)]
    out, cycles = turn(Gearbox(given_bits, taken_bits), words, seed=seed, **often)
    expected = b"".join(word.to_bytes(given_bits // 8, "little") for word in words)
    found = b"".join(data.to_bytes(taken_bits // 8, "little")[:size] for data, size in out)
    assert found == expected
    whole, rest = divmod(len(expected), taken_bits // 8)
    assert [size for _, size in out] == [taken_bits // 8] * whole + ([rest] if rest else [])
    assert not out or out[-1][0] >> 8 * out[-1][1] == 0
    return cycles


@settings(max_examples=40)
@given(WIDTHS, WIDTHS, st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_bytes_keep_their_order(given_bits: int, taken_bits: int, count: int, seed: int) -> None:
    check(given_bits, taken_bits, count, seed)


@settings(max_examples=40)
@given(
    WIDTHS, WIDTHS, st.integers(0, 20), st.integers(0, 2**32 - 1),
    st.sampled_from([0.2, 0.7, 1]), st.sampled_from([0.2, 0.7, 1]),
)  # fmt: skip
def test_either_side_may_wait(
    given_bits: int, taken_bits: int, count: int, seed: int, give: float, take: float
) -> None:
    check(given_bits, taken_bits, count, seed, give=give, take=take)


@pytest.mark.parametrize(("given_bits", "taken_bits"), [(64, 64), (64, 104), (128, 96), (256, 64)])
def test_the_wider_side_moves_in_every_cycle(given_bits: int, taken_bits: int) -> None:
    words = max(1, taken_bits // given_bits) * 60
    least = words * max(1, given_bits / taken_bits)
    assert least <= check(given_bits, taken_bits, words, 0) <= least + 4


def test_clear_drops_what_is_held() -> None:
    box, seen = Gearbox(64, 128), []

    async def bench(context: Any, reset: Signal) -> None:
        context.set(box.output.ready, 1)
        for word, clear in ((5, 0), (0, 1), (6, 0), (7, 0)):
            context.set(box.input.valid, not clear)
            context.set(box.input.payload, word)
            context.set(box.clear, clear)
            await context.tick()
        context.set(box.input.valid, 0)
        seen.append(int(context.get(box.output.payload)["data"]))

    execute(box, bench)
    assert seen == [7 << 64 | 6]
