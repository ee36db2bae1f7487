"""The write master against a memory: what is written, in which bursts, and how errors are told."""

import random
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.rtl.bus.writer import BURST_BEATS, UNANSWERED, WriteMaster
from tests.rtl.bench import execute

PAGE = 4096


class Memory:
    """The other side of the master: takes bursts, and keeps what it was given."""

    def __init__(self, master: WriteMaster, chance: random.Random, pause: float) -> None:
        self.master, self.chance, self.pause = master, chance, pause
        self.beat = master.data_bits // 8
        self.bursts: list[tuple[int, int]] = []
        self.given: list[tuple[int, int, bool]] = []
        self.answered = 0
        self.bad: int | None = None
        self.errors: list[int] = []
        self.held: dict[str, tuple[int, ...]] = {}

    def ended(self) -> int:
        """Return how many bursts are whole: their beats and their address are here."""
        return min(len(self.bursts), sum(last for *_, last in self.given))

    def drive(self, context: Any) -> None:
        """Set what a cycle gives, and take what it brings; call it once before each tick."""
        bus = self.master.bus
        answers = self.answered < self.ended() and self.chance.random() >= self.pause
        context.set(bus.awready, self.chance.random() >= self.pause)
        context.set(bus.wready, self.chance.random() >= self.pause)
        context.set(bus.bvalid, answers)
        context.set(bus.bresp, 2 if self.answered == self.bad else 0)
        assert context.get(bus.bready)
        if context.get(self.master.error):
            assert context.get(self.master.response) == 2
            self.errors.append(context.get(self.master.address))
        self.answered += answers
        for channel, names in (("aw", ("awaddr", "awlen")), ("w", ("wdata", "wstrb", "wlast"))):
            if not context.get(getattr(bus, f"{channel}valid")):
                assert channel not in self.held
                continue
            payload = tuple(context.get(getattr(bus, name)) for name in names)
            assert self.held.pop(channel, payload) == payload
            if not context.get(getattr(bus, f"{channel}ready")):
                self.held[channel] = payload
            elif channel == "aw":
                self.bursts.append((payload[0], payload[1] + 1))
                assert len(self.bursts) - self.answered <= UNANSWERED + 1
            else:
                self.given.append((payload[0], payload[1], bool(payload[2])))

    def contents(self) -> dict[int, int]:
        """Return the bytes that were written, by address."""
        stored, given = {}, iter(self.given)
        for address, beats in self.bursts:
            assert address // PAGE == (address + beats * self.beat - 1) // PAGE
            assert 1 <= beats <= BURST_BEATS
            for index in range(beats):
                data, strobes, last = next(given)
                assert last == (index == beats - 1)
                for lane in range(self.beat):
                    if strobes >> lane & 1:
                        place = address + index * self.beat + lane
                        assert place not in stored
                        stored[place] = data >> 8 * lane & 0xFF
        assert next(given, None) is None
        return stored


def write(
    data_bits: int, data: bytes, base: int, seed: int, pause: float, **options: Any
) -> Memory:
    """Write bytes from ``base`` on; return the memory."""
    chance, beat = random.Random(seed), data_bits // 8
    master = WriteMaster(data_bits)
    memory = Memory(master, chance, pause)
    memory.bad = options.get("bad")
    pieces = [data[i : i + beat] for i in range(0, len(data), beat)]

    async def bench(context: Any, reset: Signal) -> None:
        context.set(master.start, 1)
        context.set(master.base, base)
        memory.drive(context)
        await context.tick()
        context.set(master.start, 0)
        waiting, offered = list(pieces), False
        for cycle in range(60 * len(pieces) + 300):
            stopped = cycle >= options.get("stop", 1 << 30)
            waiting = [] if stopped else waiting
            offered = bool(waiting) and (offered or chance.random() >= pause)
            context.set(master.beats.valid, offered)
            if offered:
                context.set(
                    master.beats.payload,
                    {"data": int.from_bytes(waiting[0], "little"), "bytes": len(waiting[0])},
                )
            context.set(master.stop, stopped)
            context.set(master.flush, not waiting)
            memory.drive(context)
            taken = offered and context.get(master.beats.ready)
            await context.tick()
            if taken:
                waiting.pop(0)
                offered = False
            if not waiting and not context.get(master.busy):
                return
        raise AssertionError("the beats were not written")

    execute(master, bench)
    return memory


CASES = {
    "data_bits": st.sampled_from([64, 128]),
    "base": st.integers(0, 2**52 - 1),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(max_examples=12)
@given(**CASES, data=st.binary(max_size=1200), pause=st.sampled_from([0, 0.4, 0.8]))
def test_every_byte_once_and_no_other(
    data_bits: int, base: int, seed: int, data: bytes, pause: float
) -> None:
    memory = write(data_bits, data, base, seed, pause)
    first = base // (data_bits // 8) * (data_bits // 8)
    assert memory.contents() == {first + i: byte for i, byte in enumerate(data)}
    assert memory.answered == len(memory.bursts)
    assert memory.errors == []


@settings(max_examples=8)
@given(**CASES, beats=st.integers(1, 100), bad=st.integers(0, 6))
def test_an_error_has_the_address_of_its_burst(
    data_bits: int, base: int, seed: int, beats: int, bad: int
) -> None:
    memory = write(data_bits, bytes(beats * data_bits // 8), base, seed, 0.3, bad=bad)
    assert memory.errors == [address for address, _ in memory.bursts[bad : bad + 1]]


@settings(max_examples=8)
@given(**CASES, stop=st.integers(0, 150))
def test_stop_completes_what_has_begun(data_bits: int, base: int, seed: int, stop: int) -> None:
    memory = write(data_bits, bytes(1600), base, seed, 0.4, stop=stop)
    memory.contents()
    assert memory.answered == len(memory.bursts)
    assert memory.held == {}
