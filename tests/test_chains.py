"""Depthwise convolutions with chains of taps, on the RTL: every integer, every layer's cycles."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.sim.simulator import Simulator, Stalls
from tests.depthwise import depthwise_networks
from tests.networks import many
from tests.test_cells import MAGNITUDES
from tests.test_equivalence import STALLS, check, check_stalled

PLAIN = ArrayConfig(4, 4, acc_depth=16)
SLOW = [
    # Results of four planes: steps of chains do not follow one another in every cycle.
    ArrayConfig(4, 8, code_bits=2, acc_depth=16),
    ArrayConfig(4, 4, code_bits=5, acc_depth=4, param_slots=2, burst=1, fetch_depth=2),
    ArrayConfig(10, 5, code_bits=3, acc_depth=32),
    ArrayConfig(4, 4, acc_depth=16, mac="uniform"),
    ArrayConfig(4, 4, acc_depth=16, mac="product", **MAGNITUDES),
    ArrayConfig(4, 4, code_bits=3, acc_depth=16, mac="square", weight_operand_bits=4),
    ArrayConfig(4, 4, acc_depth=16, mac="pair", products=True),
]

Running = Callable[[ArrayConfig], Simulator]


def check_networks(running: Running, config: ArrayConfig, examples: int) -> None:
    """Run random networks of depthwise convolutions."""

    @many(examples)
    @given(st.data(), st.sampled_from([1, 20, 100]))
    def run(data: st.DataObject, latency: int) -> None:
        check(running(config), data.draw(depthwise_networks(config)), latency)

    run()


def check_stalls(running: Running, config: ArrayConfig, examples: int) -> None:
    """Run random networks of depthwise convolutions with back-pressure."""

    @many(examples)
    @given(st.data(), STALLS, st.integers(1, 50))
    def run(data: st.DataObject, stalls: Stalls, latency: int) -> None:
        program = compile(data.draw(depthwise_networks(config)), config, latency)
        check_stalled(running(config), program, stalls)

    run()


def test_depthwise_networks(running: Running) -> None:
    check_networks(running, PLAIN, 15)


def test_stalls_change_no_value(running: Running) -> None:
    check_stalls(running, PLAIN, 5)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, *SLOW], ids=lambda c: f"{c.mac}-{c}-{c.code_bits}bit")
def test_many_depthwise_networks(running: Running, config: ArrayConfig) -> None:
    check_networks(running, config, 40)
    check_stalls(running, config, 15)
