"""Transformer encoders on the RTL: every integer equals the model's, every layer's cycles the
prediction, for memories of any latency; stalls change no value."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.network import IntegerNetwork
from nupes.sim.simulator import Simulator, Stalls
from tests.encoders import biased_scores, coded_tokens, encoders_for
from tests.images import all_images_of
from tests.networks import many, networks
from tests.transformers import Books, Sizes, Transformer

FAST = [ArrayConfig(4, 4, acc_depth=16, attention=True, products=True)]
SLOW = [
    ArrayConfig(4, 4, acc_depth=16, attention=True),
    ArrayConfig(4, 8, code_bits=2, acc_depth=4, attention=True),
    ArrayConfig(8, 4, code_bits=3, acc_depth=16, attention=True, products=True),
    ArrayConfig(2, 2, code_bits=8, acc_depth=16, attention=True),
    ArrayConfig(4, 4, code_bits=5, acc_depth=8, attention=True),
    ArrayConfig(4, 2, code_bits=6, acc_depth=16, attention=True, products=True),
    ArrayConfig(2, 4, code_bits=7, acc_depth=16, attention=True),
    ArrayConfig(16, 16, acc_depth=16, attention=True),
    # The smallest buffers and slots; residuals of eight planes.
    ArrayConfig(
        4, 2, code_bits=2, acc_depth=4, param_slots=2, burst=1, fetch_depth=2, attention=True,
        products=True,
    ),
]  # fmt: skip
ARRAYS = [*FAST, *(pytest.param(config, marks=pytest.mark.slow) for config in SLOW)]
IMAGES = 2


@pytest.fixture(scope="module", params=ARRAYS, ids=lambda c: f"{c}-{c.code_bits}bit")
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(request.param) as running:
        yield running


def check(hardware: Simulator, network: IntegerNetwork, latency: int = 20) -> None:
    """Run a network on the hardware; compare every integer and every layer's cycles."""
    program, images = compile(network, hardware.config, latency), all_images_of(network, IMAGES)
    result = hardware.run(program, images)
    np.testing.assert_array_equal(result.y, network.run(*network.encode_all(*images)))
    predicted = [layer.cycles for layer in program.layers]
    assert result.layer_cycles.tolist() == [predicted] * IMAGES


def test_two_blocks(hardware: Simulator) -> None:
    sizes = Sizes((hardware.config.acc_depth + 1, 1), head=hardware.config.lanes)
    check(hardware, Transformer(sizes, Books(), np.random.default_rng(0)).build())


@many(25)
@given(st.data(), st.sampled_from([1, 5, 20, 100]))
def test_random_encoders(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    check(hardware, data.draw(encoders_for(hardware.config)), latency)


@many(15)
@given(coded_tokens())
def test_norms_of_codes(hardware: Simulator, network: IntegerNetwork) -> None:
    check(hardware, network)


@many(15)
@given(biased_scores(), st.sampled_from([1, 20, 100]))
def test_biases_of_scores(hardware: Simulator, network: IntegerNetwork, latency: int) -> None:
    check(hardware, network, latency)


@many(15)
@given(st.data())
def test_networks_without_attention(hardware: Simulator, data: st.DataObject) -> None:
    check(hardware, data.draw(networks(also=("concat", "mosaic"))))


@many(15)
@given(st.data(), st.sampled_from([0.2, 0.5, 0.9]), st.integers(1, 50), st.integers(1, 2**32 - 1))
def test_stalls_change_no_value(
    hardware: Simulator, data: st.DataObject, chance: float, latency: int, seed: int
) -> None:
    network = data.draw(encoders_for(hardware.config))
    stall(hardware, network, latency, Stalls(chance, chance, chance, seed=seed))


def stall(hardware: Simulator, network: IntegerNetwork, latency: int, stalls: Stalls) -> None:
    """Run a network on hardware that waits now and then; compare every integer."""
    program, images = compile(network, hardware.config, latency), all_images_of(network, 1)
    result = hardware.run(program, images, stalls=stalls)
    np.testing.assert_array_equal(result.y, network.run(*network.encode_all(*images)))


@pytest.mark.slow
@many(10)
@given(st.data(), st.sampled_from([1, 5, 20, 100]), st.integers(1, 2**32 - 1))
def test_many_random_encoders(
    hardware: Simulator, data: st.DataObject, latency: int, seed: int
) -> None:
    """With back-pressure as well."""
    network = data.draw(encoders_for(hardware.config))
    check(hardware, network, latency)
    stall(hardware, network, latency, Stalls(0.5, 0.5, 0.5, seed=seed))
