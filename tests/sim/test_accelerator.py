"""The real accelerator in the simulators: random programs against the interpreter."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.rtl.isa import Opcode, Status
from nupes.sim import RawResult, Simulator, Stalls
from tests.rtl import program as pysim
from tests.rtl.interpreter import Machine
from tests.rtl.program import Program
from tests.rtl.random_program import add_layer, dump, fill, small
from tests.sim.conftest import needs_icarus

CONFIG = small(2, 4, code_bits=3)


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


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, stalls=STALLS, latency=st.integers(1, 50))
def test_values(accelerator: Simulator, seed: int, stalls: Stalls, latency: int) -> None:
    program, machine = random_program(seed), Machine(CONFIG)
    machine.run(program.words)
    result = accelerator.execute(program.words, latency=latency, stalls=stalls)
    assert result.status == Status.OK
    assert result.outputs.tolist() == machine.results


@pytest.mark.parametrize("latency", [1, 7])
def test_cycles_equal_the_python_simulator(accelerator: Simulator, latency: int) -> None:
    words = random_program(5).words
    (expected,) = pysim.run(CONFIG, [words], pysim.Stalls(latency=latency))
    result = accelerator.execute(words, latency=latency)
    assert result.outputs.tolist() == expected.results
    assert result.marks.tolist() == expected.marks
    assert result.cycles == expected.cycles


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, cycle=st.integers(1, 3000), stalls=STALLS)
def test_reset_in_mid_run(accelerator: Simulator, seed: int, cycle: int, stalls: Stalls) -> None:
    words = random_program(seed).words
    result = accelerator.execute(words, stalls=stalls, reset_cycle=cycle)
    assert same(result, accelerator.execute(words, stalls=stalls))


def test_a_memory_that_never_answers(accelerator: Simulator) -> None:
    words = random_program(0).words
    result = accelerator.execute(words, stalls=Stalls(response=1))
    assert result.status == Status.TIMEOUT
    assert result.cycles >= CONFIG.watchdog
    assert accelerator.execute(words).status == Status.OK


@needs_icarus
def test_icarus_gives_the_same(accelerator: Simulator) -> None:
    words = random_program(5).words
    with Simulator(CONFIG, "icarus") as icarus:
        for stalls in (Stalls(), Stalls(0.2, 0.2, 0.2, seed=7)):
            result = icarus.execute(words, stalls=stalls)
            assert result.status == Status.OK
            assert same(result, accelerator.execute(words, stalls=stalls))
