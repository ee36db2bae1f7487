"""Simulators shared by the tests: each is built and started once."""

import shutil
from collections.abc import Iterator

import pytest

from nupes.sim import Simulator
from tests.sim.stub import SMALL, stub

needs_icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus is not installed (apt-get install iverilog)"
)

SIMULATORS = ["verilator", pytest.param("icarus", marks=needs_icarus)]


@pytest.fixture(scope="session", params=SIMULATORS)
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running stub."""
    with Simulator(SMALL, request.param, verilog=stub(SMALL)) as running:
        yield running
