"""The read master against a memory: which beats it requests, in which bursts, and what it drops."""

import random
from typing import Any

import pytest
from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.bus import word_bytes
from nupes.arch.config import ArrayConfig
from nupes.rtl.bus.reader import ReadMaster
from tests.rtl.bench import execute

PAGE = 4096
CONFIGS = {
    64: ArrayConfig(4, 4, burst=4, fetch_depth=8),
    96: ArrayConfig(3, 24, burst=16, fetch_depth=32),
    104: ArrayConfig(2, 26),
    512: ArrayConfig(8, 64, code_bits=8, burst=128, fetch_depth=256),
}


class Memory:
    """The other side of the master: answers bursts, and keeps what it was asked for."""

    def __init__(self, master: ReadMaster, chance: random.Random, pause: float) -> None:
        self.master, self.chance, self.pause = master, chance, pause
        self.bursts: list[tuple[int, int]] = []
        self.waiting: list[int] = []
        self.beats: list[int] = []
        self.held: tuple[int, int] | None = None
        self.bad: int | None = None
        self.errors: list[int] = []

    def drive(self, context: Any) -> None:
        """Set what a cycle gives, and take what it brings; call it once before each tick."""
        bus = self.master.bus
        context.set(bus.arready, self.chance.random() >= self.pause)
        arrives = bool(self.waiting) and self.chance.random() >= self.pause
        context.set(bus.rvalid, arrives)
        if arrives:
            context.set(bus.rdata, self.waiting[0])
            context.set(bus.rresp, 3 if self.waiting[0] == self.bad else 0)
        context.set(self.master.beats.ready, self.chance.random() >= self.pause)
        if context.get(self.master.error):
            assert context.get(self.master.response) == 3
            self.errors.append(context.get(self.master.address))
        if arrives and context.get(bus.rready):
            self.waiting.pop(0)
        if context.get(self.master.beats.valid) and context.get(self.master.beats.ready):
            self.beats.append(context.get(self.master.beats.payload))
        if not context.get(bus.arvalid):
            assert self.held is None
            return
        burst = context.get(bus.araddr), context.get(bus.arlen) + 1
        assert self.held in (None, burst)
        self.held = burst
        if context.get(bus.arready):
            self.held = None
            self.bursts.append(burst)
            size = self.master.data_bits // 8
            self.waiting += [burst[0] + i * size for i in range(burst[1])]


def read(
    bits: int, data_bits: int, length: int, base: int, seed: int, pause: float, **options: Any
) -> Memory:
    """Read a program of ``length`` words at ``base`` as the fetcher would; return the memory."""
    config, chance = CONFIGS[bits], random.Random(seed)
    master = ReadMaster(config, data_bits)
    memory = Memory(master, chance, pause)
    memory.bad = options.get("bad")
    size, beat = word_bytes(config.port_bits), data_bits // 8

    async def bench(context: Any, reset: Signal) -> None:
        context.set(master.start, 1)
        context.set(master.base, base)
        memory.drive(context)
        await context.tick()
        context.set(master.start, 0)
        left, taken, asked = length, 0, 0
        for cycle in range(200 + 60 * length * max(1, size // beat)):
            # As the fetcher: two bursts, of which only the last one is short.
            want = left and asked - taken <= config.burst and chance.random() >= pause
            words = min(left, config.burst) if want else 0
            context.set(master.request.valid, bool(want))
            context.set(master.request.payload.length, words)
            context.set(master.stop, cycle >= options.get("stop", 1 << 30))
            stopped = cycle >= options.get("stop", 1 << 30)
            memory.drive(context)
            assert context.get(master.due) == (taken < asked) or stopped
            can = taken < asked and (taken + 1) * size <= len(memory.beats) * beat
            context.set(master.taken, can)
            await context.tick()
            left, asked, taken = left - words, asked + words, taken + can
            if stopped:
                left, asked, taken = 0, 0, 0
            if (stopped or taken == length) and not context.get(master.busy):
                break
        else:
            raise AssertionError("the program was not read")
        # Nothing is left to request, or to take.
        bursts = len(memory.bursts)
        context.set(master.stop, 0)
        context.set(master.taken, 0)
        context.set(master.request.valid, 0)
        for _ in range(20):
            memory.drive(context)
            assert not context.get(master.due)
            await context.tick()
        assert len(memory.bursts) == bursts

    execute(master, bench)
    return memory


CASES = {
    "bits": st.sampled_from(sorted(CONFIGS)),
    "data_bits": st.sampled_from([64, 128]),
    "base": st.integers(0, 2**52 - 1),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(max_examples=15)
@given(**CASES, length=st.integers(1, 70), pause=st.sampled_from([0, 0.4, 0.8]))
def test_every_beat_once_and_no_other(
    bits: int, data_bits: int, base: int, seed: int, length: int, pause: float
) -> None:
    memory = read(bits, data_bits, length, base, seed, pause)
    beat = data_bits // 8
    first, count = base // beat * beat, -(-length * word_bytes(CONFIGS[bits].port_bits) // beat)
    assert memory.beats == [first + i * beat for i in range(count)]
    for address, beats in memory.bursts:
        assert 1 <= beats <= 256
        assert address // PAGE == (address + beats * beat - 1) // PAGE
    assert memory.errors == []


@settings(max_examples=8)
@given(**CASES, length=st.integers(1, 70), place=st.floats(0, 1, exclude_max=True))
def test_an_error_has_its_address(
    bits: int, data_bits: int, base: int, seed: int, length: int, place: float
) -> None:
    beat = data_bits // 8
    count = -(-length * word_bytes(CONFIGS[bits].port_bits) // beat)
    bad = base // beat * beat + int(place * count) * beat
    assert read(bits, data_bits, length, base, seed, 0.3, bad=bad).errors == [bad]


@settings(max_examples=8)
@given(**CASES, stop=st.integers(0, 200))
def test_stop_completes_what_has_begun(
    bits: int, data_bits: int, base: int, seed: int, stop: int
) -> None:
    memory = read(bits, data_bits, 200, base, seed, 0.4, stop=stop)
    assert memory.waiting == []


@pytest.mark.parametrize("data_bits", [64, 128])
def test_beats_come_without_a_gap(data_bits: int) -> None:
    """A request in cycle n is on AR in n + 2; aligned bursts are as long as the requests."""
    memory = read(64, data_bits, 64, 0, 0, 0)
    assert [beats for _, beats in memory.bursts] == [4 * 64 // data_bits] * 16
