"""The simulator with ``nupes_axi`` and its bench: values, cycles, stalls, errors."""

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nupes
from nupes.arch.bus import BusStatus, memory_image
from nupes.arch.config import ArrayConfig
from nupes.arch.registers import REGISTERS
from nupes.examples.pretrained.resnet8 import ResNet8
from nupes.model.errors import InputError
from nupes.sim import Simulator, Stalls
from nupes.sim.beats import beats_of, patched_beats
from nupes.sim.launchers import BUS_TESTBENCH
from tests.compiler.test_cycles import CIFAR, integer_network
from tests.networks import many
from tests.rtl.random_program import small
from tests.rtl.whole_program import program_and_results
from tests.small import ARRAY, small_network

CONFIG = small(2, 4, code_bits=3, watchdog=2048)

SIMULATOR = "icarus" if shutil.which("iverilog") else "verilator"
"""One that has undefined values, if it is there: what a run does not write is undefined."""

BITS = st.sampled_from([64, 96, 100, 128, 192, 512])


def random_words(rng: np.random.Generator, count: int, bits: int) -> list[int]:
    """Return port words."""
    return [int.from_bytes(rng.bytes(64), "little") % (1 << bits) for _ in range(count)]


def rows_of(words: list[int], bits: int) -> np.ndarray:
    """Return port words as ``Program.image`` has them."""
    raw = b"".join(word.to_bytes(8 * -(-bits // 64), "little") for word in words)
    return np.frombuffer(raw, "<u8").reshape(len(words), -1).astype(np.uint64)


@given(BITS, st.sampled_from([64, 128]), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_words_lie_in_whole_bytes(bits: int, data_bits: int, count: int, seed: int) -> None:
    """The image is the words' bytes one after another, up to a whole beat; a patch of words is a
    patch of the beats that they lie in."""
    rng = np.random.default_rng(seed)
    words, size = random_words(rng, count, bits), -(-bits // 8)
    expected = b"".join(word.to_bytes(size, "little") for word in words)
    image = memory_image(rows_of(words, bits), bits, data_bits).tobytes()
    assert image[: len(expected)] == expected
    assert len(image) * 8 % data_bits == 0
    assert image[len(expected) :] == bytes(len(image) - len(expected))
    assert len(image) - len(expected) < data_bits // 8
    places = rng.permutation(count)[: rng.integers(0, count + 1)]
    changed = random_words(rng, len(places), bits)
    before = beats_of(rows_of(words, bits), bits, data_bits)
    if len(places):
        patch = places, rows_of(changed, bits)
        at, beats = patched_beats(rows_of(words, bits), patch, bits, data_bits)
        before[at] = beats
    for place, word in zip(places, changed, strict=True):
        words[place] = word
    assert np.array_equal(before, beats_of(rows_of(words, bits), bits, data_bits))


def test_the_bench_knows_the_registers() -> None:
    text = BUS_TESTBENCH.read_text()
    known = dict(re.findall(r"localparam (\w+) = 12'h(\w+);", text))
    offsets = {register.name: register.offset for register in REGISTERS}
    assert len(known) > 10
    assert {name: int(value, 16) for name, value in known.items()} == {
        name: offsets[name] for name in known
    }


def test_bad_buses() -> None:
    with pytest.raises(InputError, match="bus must be one of axi4, not 'wishbone'"):
        Simulator(ARRAY, bus="wishbone")
    with pytest.raises(InputError, match="bus_bits must be one of 64, 128, not 32"):
        Simulator(ARRAY, bus="axi4", bus_bits=32)
    with pytest.raises(InputError, match="bus_bits must be given with a bus, not 64 without one"):
        Simulator(ARRAY, bus_bits=64)
    assert Simulator(ARRAY, bus="axi4").bus_bits == 64
    assert Simulator(ArrayConfig(20, 20, code_bits=5), bus="axi4").bus_bits == 128


@pytest.fixture(scope="module")
def hardware() -> Iterator[Simulator]:
    """Return an array for random programs on a bus."""
    with Simulator(CONFIG, SIMULATOR, bus="axi4") as hw:
        yield hw


PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 0.9])
STALLS = st.builds(Stalls, PROBABILITY, PROBABILITY, PROBABILITY, seed=st.integers(1, 2**32 - 1))


@pytest.mark.slow
@many(25)
@given(seed=st.integers(0, 2**32), stalls=STALLS, latency=st.integers(1, 50))
def test_random_programs(hardware: Simulator, seed: int, stalls: Stalls, latency: int) -> None:
    words, results = program_and_results(CONFIG, seed, layers=3)
    result = hardware.execute(words, stalls=stalls, latency=latency)
    assert (result.status, result.outputs.tolist()) == (BusStatus.OK, results)


@pytest.mark.slow
@many(15)
@given(seed=st.integers(0, 2**32), cycle=st.integers(1, 3000), stalls=STALLS)
def test_reset_in_mid_run(hardware: Simulator, seed: int, cycle: int, stalls: Stalls) -> None:
    words, results = program_and_results(CONFIG, seed, layers=3)
    result = hardware.execute(words, stalls=stalls, reset_cycle=cycle)
    assert (result.status, result.outputs.tolist()) == (BusStatus.OK, results)
    assert result.cycles == hardware.execute(words, stalls=stalls).cycles


@pytest.mark.slow
def test_a_memory_that_never_answers(hardware: Simulator) -> None:
    words, results = program_and_results(CONFIG, 0, layers=3)
    for since in (0, 200):
        result = hardware.execute(words, stalls=Stalls(response=1, since=since))
        assert result.status == BusStatus.TIMEOUT
    assert hardware.execute(words).outputs.tolist() == results


@pytest.mark.slow
def test_networks() -> None:
    """Values are equal, and the bus costs what it takes to begin and to write the results."""
    network = small_network()
    program = nupes.compile(network, ARRAY)
    images = np.random.default_rng(0).uniform(0, 15, (5, 1, 4, 4))
    with Simulator(ARRAY, SIMULATOR, bus="axi4") as hw:
        result = hw.run(program, images)
    assert np.array_equal(result.outputs, network(images))
    assert result.layer_cycles.sum(axis=1).tolist() == result.cycles
    assert program.cycles < min(result.cycles) <= max(result.cycles) < program.cycles + 60


@pytest.mark.slow
@pytest.mark.parametrize("size", [8])
def test_resnet8(size: int) -> None:
    """Every integer is equal, at two percent of the accelerator's own cycles."""
    network = integer_network(ResNet8, CIFAR, 8)
    program = nupes.compile(network, ArrayConfig(size, size))
    images = np.random.default_rng(1).normal(size=(3, *CIFAR)).astype(np.float32)
    with Simulator(program.array, bus="axi4") as hw:
        result = hw.run(program, images)
    assert np.array_equal(result.outputs, network(images))
    assert max(result.cycles) < 1.02 * program.cycles
