"""``nupes_axi`` as a whole, with ``cocotbext-axi``: the scenarios of ``scenarios.py``."""

import pytest

from nupes.arch.config import ArrayConfig
from tests.rtl.bus.simulators import run_scenario
from tests.rtl.random_program import small
from tests.sim.conftest import needs_icarus

NARROW = small(2, 4, code_bits=3, watchdog=2048)
PORTS = {
    64: NARROW,
    100: small(20, 2, code_bits=5, tensor_bits=5),
    192: small(24, 3, code_bits=8, tensor_bits=8),
}
"""Arrays by the bits of their port: words that fill beats, that share them, that take several."""

SHORT = small(4, 20, code_bits=5, tensor_bits=5)
"""Words that share beats too, in programs of half the length."""

BUSY: dict[str, float] = {"pause": 0.4, "latency": 40}
"""Random pauses on every channel, and a memory that is slow now and then."""

pytestmark = [pytest.mark.slow, needs_icarus]


CALM: dict[str, float] = {}


@pytest.mark.parametrize(
    ("bits", "data_bits", "memory"),
    [(64, 64, BUSY), (64, 128, CALM), (100, 64, BUSY), (192, 128, CALM)],
)
def test_runs(bits: int, data_bits: int, memory: dict[str, float]) -> None:
    run_scenario("runs", PORTS[bits], data_bits, seed=data_bits, runs=2, **memory)


def test_registers() -> None:
    run_scenario("registers", NARROW, 128, pause=0.3)


@pytest.mark.parametrize(
    ("scenario", "config"),
    [("read_errors", NARROW), ("write_errors", NARROW), ("aborts", SHORT), ("resets", NARROW)],
    ids=["read_errors", "write_errors", "aborts", "resets"],
)
def test_what_ends_a_run(scenario: str, config: ArrayConfig) -> None:
    run_scenario(scenario, config, 64, seed=config.port_bits, runs=3, **BUSY)


@pytest.mark.parametrize("scenario", ["overflow", "bad_program"])
def test_what_ends_a_program(scenario: str) -> None:
    run_scenario(scenario, NARROW, 128)


def test_verilator() -> None:
    run_scenario("resets", NARROW, 64, "verilator", seed=3, runs=2, **BUSY)
