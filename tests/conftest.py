"""What all tests share: Hypothesis profiles, and one running simulator per array.

The profile ``dev`` explores anew each time; ``ci``, the default where ``CI`` is set, repeats the
same examples, not quite as many; ``soak`` explores ten times as many networks and stalls
(``tests.networks.many``).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from nupes.arch.config import ArrayConfig
from nupes.sim import Simulator

# Simulators and shared machines make single examples slow now and then; that is no failure.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, max_examples=60
)
settings.register_profile("soak", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_runtest_setup() -> None:
    """Seed the weights that a test draws, whichever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[..., Simulator]]:
    """Return a function that gives the resident simulator of an array: started once, ended with the
    session."""
    with ExitStack() as stack:
        simulators: dict[tuple[ArrayConfig, str], Simulator] = {}

        def start(config: ArrayConfig, simulator: str = "verilator") -> Simulator:
            key = config, simulator
            if key not in simulators:
                simulators[key] = stack.enter_context(Simulator(config, simulator))
            return simulators[key]

        yield start
