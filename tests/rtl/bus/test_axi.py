"""``nupes_axi`` as a whole, with ``cocotbext-axi``: the scenarios of ``scenarios.py``."""

import pytest

from nupes.arch.config import ArrayConfig
from tests.rtl.bus.simulators import run_scenario
from tests.rtl.random_program import small
from tests.sim.conftest import needs_icarus

NARROW = small(2, 4, code_bits=3, watchdog=2048)
PORTS = {
    64: NARROW,
    96: small(3, 24),
    100: small(20, 2, code_bits=5, tensor_bits=5),
    192: small(24, 3, code_bits=8, tensor_bits=8),
}
"""Arrays by the bits of their port: words that fill beats, that share them, that take several."""

BUSY = {"pause": 0.4, "latency": 40}
"""Random pauses on every channel, and a memory that is slow now and then."""

pytestmark = [pytest.mark.slow, needs_icarus]


@pytest.mark.parametrize("data_bits", [64, 128])
@pytest.mark.parametrize("config", PORTS.values(), ids=map(str, PORTS))
def test_runs(config: ArrayConfig, data_bits: int) -> None:
    run_scenario("runs", config, data_bits, seed=data_bits, runs=2)


@pytest.mark.parametrize(("bits", "data_bits"), [(64, 128), (100, 64), (192, 128)])
def test_pauses_and_a_slow_memory(bits: int, data_bits: int) -> None:
    run_scenario("runs", PORTS[bits], data_bits, seed=1, runs=2, **BUSY)


@pytest.mark.parametrize("data_bits", [64, 128])
def test_registers(data_bits: int) -> None:
    run_scenario("registers", NARROW, data_bits, pause=0.3)


@pytest.mark.parametrize("scenario", ["read_errors", "write_errors", "aborts", "resets"])
@pytest.mark.parametrize("bits", [64, 100])
def test_what_ends_a_run(scenario: str, bits: int) -> None:
    run_scenario(scenario, PORTS[bits], 64, seed=bits, runs=3, **BUSY)


@pytest.mark.parametrize("scenario", ["overflow", "bad_program"])
def test_what_ends_a_program(scenario: str) -> None:
    run_scenario(scenario, NARROW, 128)


@pytest.mark.parametrize("scenario", ["runs", "resets"])
def test_verilator(scenario: str) -> None:
    run_scenario(scenario, NARROW, 64, "verilator", seed=3, runs=4, **BUSY)
