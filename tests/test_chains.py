"""Depthwise convolutions with chains of taps, on the RTL: every integer, every layer's cycles."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.sim.simulator import Simulator, Stalls
from tests.assemble import assemble, coded, layer_of, wide
from tests.depthwise import depthwise_networks, narrow_maps
from tests.networks import many, unit
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


def chained_networks(config: ArrayConfig) -> st.SearchStrategy[IntegerNetwork]:
    """Draw a network with depthwise convolutions."""
    return depthwise_networks(config) | narrow_maps(config)


def check_networks(running: Running, config: ArrayConfig, examples: int) -> None:
    """Run random networks of depthwise convolutions."""

    @many(examples)
    @given(st.data(), st.sampled_from([1, 20, 100]))
    def run(data: st.DataObject, latency: int) -> None:
        check(running(config), data.draw(chained_networks(config)), latency)

    run()


def check_stalls(running: Running, config: ArrayConfig, examples: int) -> None:
    """Run random networks of depthwise convolutions with back-pressure."""

    @many(examples)
    @given(st.data(), STALLS, st.integers(1, 50))
    def run(data: st.DataObject, stalls: Stalls, latency: int) -> None:
        program = compile(data.draw(chained_networks(config)), config, latency)
        check_stalled(running(config), program, stalls)

    run()


def test_depthwise_networks(running: Running) -> None:
    check_networks(running, PLAIN, 15)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols", "channels"), [(4, 8, 5), (10, 5, 7), (4, 4, 6)])
def test_rows_that_chains_of_unused_lanes_reach_have_weights(
    running: Running, rows: int, cols: int, channels: int
) -> None:
    config = ArrayConfig(rows, cols, acc_depth=16)
    # Unused lanes have code 0, which is level -7; the first layer leaves weights everywhere.
    book = make_codebook("uniform", 4, True)
    source = coded("input", (5, 4, 20), book)
    rng = np.random.default_rng(0)
    dense = Conv(rng.integers(0, 7, (channels, 20, 1, 1)).astype(np.uint8), book, np.ones(channels))
    apart = Conv(
        rng.integers(0, 15, (channels, 1, 3, 3)).astype(np.uint8),
        book,
        np.ones(channels),
        groups=channels,
    )
    tail = unit(channels)
    encoder = Encoder(
        np.arange(-1200, 1200, 170).astype(np.int16)[:14], np.arange(15, dtype=np.uint8)
    )
    layers = [
        layer_of(
            "dense", dense, "input", coded("codes", (5, 4, channels), book), tail, None, encoder
        ),
        layer_of("apart", apart, "codes", wide("y", (3, 2, channels)), tail),
    ]
    check(running(config), assemble(source, layers, (channels, 3, 2)), 1)


def test_stalls_change_no_value(running: Running) -> None:
    check_stalls(running, PLAIN, 5)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, *SLOW], ids=lambda c: f"{c.mac}-{c}-{c.code_bits}bit")
def test_many_depthwise_networks(running: Running, config: ArrayConfig) -> None:
    check_networks(running, config, 40)
    check_stalls(running, config, 15)
