"""What happens to ``nupes_axi`` in a simulator; each scenario is a cocotb test that ``test_axi``
starts."""

import json
import os
import random
from collections.abc import Callable, Coroutine
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiResp

from nupes.arch.bus import BusStatus, word_bytes
from nupes.arch.config import ArrayConfig
from nupes.arch.registers import REGISTERS, Access, constants_of
from tests.rtl.bus.bench import Bench
from tests.rtl.bus.simulators import SETTINGS
from tests.rtl.whole_program import program_and_results

TOLD = json.loads(os.environ[SETTINGS])
CONFIG: ArrayConfig = eval(TOLD["config"])
DATA_BITS: int = TOLD["data_bits"]
SEED: int = TOLD.get("seed", 0)


def scenario(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Any:
    """Make a cocotb test of a function, which runs if it is the one that was asked for."""
    return cocotb.test(skip=test.__name__ != TOLD["scenario"])(test)


def program(seed: int) -> tuple[list[int], list[list[int]]]:
    """Return a random program and its results."""
    return program_and_results(CONFIG, seed, layers=2)


async def ready(dut: Any) -> Bench:
    """Return a bench after its reset."""
    bench = Bench(
        dut, CONFIG, DATA_BITS, SEED, TOLD.get("pause", 0.0), latency=TOLD.get("latency", 0)
    )
    await bench.reset()
    return bench


async def succeed(bench: Bench, words: list[int], results: list[list[int]]) -> None:
    """Run a program, whose results must be right."""
    await bench.begin(words, len(results))
    assert await bench.finish() == (BusStatus.OK, results)


def beats_of(words: list[int]) -> int:
    """Return the beats that hold a program."""
    return -(-len(words) * word_bytes(CONFIG.port_bits) * 8 // DATA_BITS)


@scenario
async def registers(dut: Any) -> None:
    """Every register reads as the map says, and as it was written."""
    bench = await ready(dut)
    known = constants_of(CONFIG, DATA_BITS)
    for register in REGISTERS:
        expected = sum(
            known.get((register.name, field.name), field.reset) << field.low
            for field in register.fields
        )
        assert await bench.read(register.name) == expected, register.name
    for register in REGISTERS:
        mask = sum(field.mask for field in register.fields)
        before = await bench.read(register.name)
        if register.access is not Access.STROBE:
            await bench.write(register.name, 0xA5C3F00F)
        written = 0xA5C3F00F & mask if register.access is Access.STORED else before
        assert await bench.read(register.name) == written, register.name
    await bench.registers.write(REGISTERS[7].offset + 2, b"\x55")
    assert await bench.read(REGISTERS[7].name) == 0xA555F00F
    free = REGISTERS[-1].offset + 4
    for offset in (free, 0xFFC):
        assert (await bench.registers.read(offset, 4)).resp == AxiResp.SLVERR
        assert (await bench.registers.write(offset, bytes(4))).resp == AxiResp.SLVERR


@scenario
async def runs(dut: Any) -> None:
    """Programs one after another: two networks in turn, at any address, right behind one another;
    each beat is read once, in order, and nothing else."""
    bench = await ready(dut)
    beat, chance = DATA_BITS // 8, random.Random(SEED)
    programs = [program(SEED), program(SEED + 1)]
    for number in range(TOLD.get("runs", 4)):
        words, results = programs[number % 2]
        base = chance.randrange(1 << 40) * beat
        buffer = (1 << 50) + chance.randrange(1 << 40) * beat
        await bench.begin(words, len(results), base, buffer)
        assert await bench.finish() == (BusStatus.OK, results)
        assert bench.memory.reads == [base + i * beat for i in range(beats_of(words))]
        await bench.until_idle()
        assert await bench.read_wide("CYCLES") > beats_of(words)
        assert await bench.read_wide("ERROR") == 0


@scenario
async def read_errors(dut: Any) -> None:
    """An error of any beat of the program ends the run, with the beat's address."""
    bench = await ready(dut)
    words, results = program(SEED)
    count, beat, chance = beats_of(words), DATA_BITS // 8, random.Random(SEED)
    for place in (0, chance.randrange(count), chance.randrange(count)):
        for response in (AxiResp.SLVERR, AxiResp.DECERR):
            bench.response, base = response, 0x7_0000_0F00
            bench.memory.bad.add(base + place * beat)
            await bench.begin(words, len(results), base)
            status = BusStatus.READ_SLVERR + (response == AxiResp.DECERR)
            found, _ = await bench.finish()
            assert found == status
            assert await bench.read_wide("ERROR") == base + place * beat
            bench.memory.bad.clear()
            await bench.until_idle()
    await succeed(bench, words, results)


@scenario
async def write_errors(dut: Any) -> None:
    """An error of a burst of results ends the run, with the burst's address."""
    bench = await ready(dut)
    words, results = program(SEED)
    size = 2 * CONFIG.cols * len(results)
    for place in (0, size // 2, size - 1):
        for response in (AxiResp.SLVERR, AxiResp.DECERR):
            bench.response, buffer = response, 1 << 33
            bench.memory.bad.add(buffer + place)
            await bench.begin(words, len(results), buffer=buffer)
            found, _ = await bench.finish()
            assert found == BusStatus.WRITE_SLVERR + (response == AxiResp.DECERR)
            burst = DATA_BITS // 8 * 16
            assert await bench.read_wide("ERROR") == buffer + place // burst * burst
            bench.memory.bad.clear()
            await bench.until_idle()
    await succeed(bench, words, results)


@scenario
async def overflow(dut: Any) -> None:
    """Nothing is written beyond the buffer."""
    bench = await ready(dut)
    words, results = program(SEED)
    for room in (0, 1, len(results) - 1):
        await bench.begin(words, room)
        found, given = await bench.finish()
        assert found == BusStatus.OVERFLOW
        assert len(given) == room
        await bench.until_idle()
    await succeed(bench, words, results)


@scenario
async def bad_program(dut: Any) -> None:
    """A word that is no instruction, and a program that is cut off: the accelerator's own ends."""
    bench = await ready(dut)
    words, results = program(SEED)
    await bench.begin([words[0] ^ 1 << 9, *words[1:]], len(results))
    assert await bench.finish() == (BusStatus.BAD_INSTRUCTION, [])
    await bench.until_idle()
    await bench.begin(words[:-1], len(results))
    found, _ = await bench.finish()
    assert found == BusStatus.TIMEOUT
    await bench.until_idle()
    await succeed(bench, words, results)


@scenario
async def aborts(dut: Any) -> None:
    """Software ends runs in any cycle; what is on the bus is completed."""
    bench = await ready(dut)
    words, results = program(SEED)
    chance = random.Random(SEED)
    for _ in range(TOLD.get("runs", 6)):
        await bench.begin(words, len(results))
        await ClockCycles(dut.aclk, chance.randrange(2 * beats_of(words)))
        await bench.write("CONTROL", 2)
        found, given = await bench.finish()
        assert found in (BusStatus.ABORTED, BusStatus.OK)
        assert found == BusStatus.ABORTED or given == results
        await bench.until_idle()
    await succeed(bench, words, results)


@scenario
async def resets(dut: Any) -> None:
    """A reset in any cycle leaves nothing of the run: the next one is as the first."""
    bench = await ready(dut)
    words, results = program(SEED)
    chance = random.Random(SEED)
    for _ in range(TOLD.get("runs", 6)):
        await bench.begin(words, len(results))
        await ClockCycles(dut.aclk, chance.randrange(2 * beats_of(words)))
        await bench.reset(1)
        assert await bench.status() == {"idle": 1, "done": 0, "status": 0}
        assert await bench.read("PROGRAM_LENGTH") == 0
        await succeed(bench, words, results)
