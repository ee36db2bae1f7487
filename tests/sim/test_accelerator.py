"""The real accelerator in the simulators: random programs against the interpreter."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import Opcode, Status
from nupes.sim import RawResult, Simulator, Stalls
from tests.networks import many
from tests.rtl import program as pysim
from tests.rtl.interpreter import Machine
from tests.rtl.program import Program
from tests.rtl.random_program import add_layer, dump, fill, small
from tests.sim.conftest import needs_icarus

CONFIG = small(2, 4, code_bits=3, watchdog=2048, products=True)


class Traced(Program):
    """A program that knows where its instructions begin."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.starts: list[int] = []

    def instruction(self, opcode: Opcode, fields: dict[str, int]) -> None:
        self.starts.append(len(self.words))
        super().instruction(opcode, fields)


def random_program(seed: int) -> Traced:
    """Return a program of some random layers and a dump of the activation memory."""
    program, chance = Traced(), random.Random(seed)
    fill(program, chance)
    for slot in range(3):
        add_layer(program, chance, slot)
    dump(program)
    program.end()
    return program


def same(one: RawResult, other: RawResult) -> bool:
    """Return whether two runs agree in values and in time."""
    return (
        (one.status, one.cycles) == (other.status, other.cycles)
        and np.array_equal(one.marks, other.marks)
        and np.array_equal(one.outputs, other.outputs)
    )


@pytest.fixture(scope="module")
def accelerator() -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(CONFIG) as running:
        yield running


SEEDS = st.integers(0, 2**32)
PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 0.9])
STALLS = st.builds(Stalls, PROBABILITY, PROBABILITY, PROBABILITY, seed=st.integers(1, 2**32 - 1))


def expected(program: Program) -> list[list[int]]:
    """Return what a program sends to the host."""
    machine = Machine(CONFIG)
    machine.run(program.words)
    return machine.results


def check_values(accelerator: Simulator, seed: int, stalls: Stalls, latency: int) -> None:
    """Compare every result of a random program."""
    program = random_program(seed)
    result = accelerator.execute(program.words, latency=latency, stalls=stalls)
    assert result.status == Status.OK
    assert result.outputs.tolist() == expected(program)


@many(40)
@given(seed=SEEDS, stalls=STALLS, latency=st.integers(1, 50))
def test_values(accelerator: Simulator, seed: int, stalls: Stalls, latency: int) -> None:
    check_values(accelerator, seed, stalls, latency)


@pytest.mark.slow
@many(1500)
@given(seed=SEEDS, stalls=STALLS, latency=st.integers(1, 50))
def test_many_values(accelerator: Simulator, seed: int, stalls: Stalls, latency: int) -> None:
    check_values(accelerator, seed, stalls, latency)


@pytest.mark.parametrize("latency", [1, 7])
def test_cycles_equal_the_python_simulator(accelerator: Simulator, latency: int) -> None:
    words = random_program(5).words
    (expected,) = pysim.run(CONFIG, [words], pysim.Stalls(latency=latency))
    result = accelerator.execute(words, latency=latency)
    assert result.outputs.tolist() == expected.results
    assert result.marks.tolist() == expected.marks
    assert result.cycles == expected.cycles


@many(40)
@given(seed=SEEDS, place=st.integers(0, 2**16), bit=st.integers(0, 255), stalls=STALLS)
def test_a_flipped_bit(
    accelerator: Simulator, seed: int, place: int, bit: int, stalls: Stalls
) -> None:
    program = random_program(seed)
    address = program.starts[place % len(program.starts)] + bit // CONFIG.port_bits
    word = program.words[address] ^ 1 << bit % CONFIG.port_bits
    patch = np.array([address]), np.array([word], np.uint64)
    assert accelerator.execute(program.words, patch).status == Status.BAD_INSTRUCTION
    assert accelerator.execute(program.words, stalls=stalls).status == Status.OK


@pytest.mark.slow
def test_every_bit_of_every_instruction(accelerator: Simulator) -> None:
    """A flipped bit ends the run with the error, and what was sent until then is right."""
    program = random_program(0)
    results = expected(program)
    for start in program.starts:
        for bit in range(INSTRUCTION_BITS):
            address, place = start + bit // CONFIG.port_bits, bit % CONFIG.port_bits
            patch = np.array([address]), np.array([program.words[address] ^ 1 << place], np.uint64)
            result = accelerator.execute(program.words, patch)
            assert result.status == Status.BAD_INSTRUCTION
            assert result.outputs.tolist() == results[: len(result.outputs)]
    assert accelerator.execute(program.words).outputs.tolist() == results


def check_reset(accelerator: Simulator, seed: int, cycle: int, stalls: Stalls) -> None:
    """Compare a run after a reset with one on a fresh accelerator."""
    words = random_program(seed).words
    result = accelerator.execute(words, stalls=stalls, reset_cycle=cycle)
    assert same(result, accelerator.execute(words, stalls=stalls))


@many(40)
@given(seed=SEEDS, cycle=st.integers(1, 3000), stalls=STALLS)
def test_reset_in_mid_run(accelerator: Simulator, seed: int, cycle: int, stalls: Stalls) -> None:
    check_reset(accelerator, seed, cycle, stalls)


@pytest.mark.slow
@many(500)
@given(seed=SEEDS, cycle=st.integers(1, 3000), stalls=STALLS)
def test_many_resets(accelerator: Simulator, seed: int, cycle: int, stalls: Stalls) -> None:
    check_reset(accelerator, seed, cycle, stalls)


def check_silence(accelerator: Simulator, seed: int, since: int, port: str) -> None:
    """Let a port fall silent for good: the watchdog ends the run, and the next one is as ever."""
    program = random_program(seed)
    results = expected(program)
    result = accelerator.execute(program.words, stalls=Stalls(since=since, **{port: 1}))
    free = accelerator.execute(program.words)
    assert (free.status, free.outputs.tolist()) == (Status.OK, results)
    if since >= free.cycles:
        assert same(result, free)
    elif result.status == Status.OK:  # everything that was still needed had passed the port
        assert result.outputs.tolist() == results
    else:
        assert result.status == Status.TIMEOUT
        assert CONFIG.watchdog <= result.cycles < free.cycles + 2 * CONFIG.watchdog
        assert result.outputs.tolist() == results[: len(result.outputs)]


SILENCE = st.integers(0, 2000), st.sampled_from(["request", "response", "result"])


@pytest.mark.parametrize("port", ["request", "response", "result"])
def test_a_port_that_never_answers(accelerator: Simulator, port: str) -> None:
    result = accelerator.execute(random_program(0).words, stalls=Stalls(**{port: 1}))
    assert result.status == Status.TIMEOUT
    check_silence(accelerator, 0, 0, port)


@many(20)
@given(SEEDS, *SILENCE)
def test_a_port_that_falls_silent(accelerator: Simulator, seed: int, since: int, port: str) -> None:
    check_silence(accelerator, seed, since, port)


@pytest.mark.slow
@many(500)
@given(SEEDS, *SILENCE)
def test_many_ports_fall_silent(accelerator: Simulator, seed: int, since: int, port: str) -> None:
    check_silence(accelerator, seed, since, port)


@needs_icarus
def test_icarus_gives_the_same(accelerator: Simulator) -> None:
    words = random_program(5).words
    with Simulator(CONFIG, "icarus") as icarus:
        for stalls in (Stalls(), Stalls(0.2, 0.2, 0.2, seed=7)):
            result = icarus.execute(words, stalls=stalls)
            assert result.status == Status.OK
            assert same(result, accelerator.execute(words, stalls=stalls))
