"""The longest time without progress: what the watchdog must survive."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.compiler.timing.progress import Progress
from nupes.model.errors import CapacityError, SimulationError
from nupes.sim.simulator import Simulator
from tests.images import images_of
from tests.model.tiny import tiny_network

SPANS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=9)


@given(SPANS)
def test_the_longest_gap(spans: list[tuple[int, int]]) -> None:
    progress, busy = Progress(), {0, 70}
    for first, more in spans:
        progress.note(first, first + more)
        busy |= set(range(first, first + more + 1))
    edges = sorted(busy)
    gaps = [b - a - 1 for a, b in pairwise(edges)]
    assert progress.longest_gap(70) == max(gaps)


def test_a_run_that_the_watchdog_would_end_is_refused() -> None:
    network, config = tiny_network(), ArrayConfig(4, 4, watchdog=256)
    with pytest.raises(CapacityError) as error:
        compile(network, config, 300)
    assert str(error.value) == (
        "watchdog must be more than the 301 cycles that the run waits with a memory latency of "
        "300, not 256; use a faster memory or ArrayConfig(watchdog=302)"
    )
    compile(network, ArrayConfig(4, 4, watchdog=302), 300)


@pytest.mark.slow
def test_the_hardware_ends_where_the_compiler_refuses() -> None:
    """The last latency that is compiled runs exactly; the next ones end with TIMEOUT."""
    network, config = tiny_network(), ArrayConfig(4, 4, watchdog=256)
    images = images_of(network, 1)
    with Simulator(config) as hardware:
        for latency in (240, 253, 254):
            program = compile(network, config, latency)
            result = hardware.run(program, images)
            assert result.cycles == [program.cycles]
            np.testing.assert_array_equal(result.y, network.run(network.encode(images)))
        for latency in (255, 256, 300):
            with pytest.raises(CapacityError, match="watchdog must be more than"):
                compile(network, config, latency)
            hardware.latency = latency
            with pytest.raises(SimulationError, match="TIMEOUT in cycle 257"):
                hardware.run(compile(network, config, 20), images)
