"""Every kind of cell computes the integers of the model: random whole networks on the RTL."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.quantizer import quantize
from nupes.sim.simulator import Simulator
from tests.images import images_of
from tests.networks import many, networks_for
from tests.sim.conftest import needs_icarus

MAGNITUDES = {"weight_magnitudes": (3, 10, 23, 41), "activation_magnitudes": (1, 5, 14, 41, 255)}
FAST = [ArrayConfig(2, 2, acc_depth=16, mac="square"), ArrayConfig(2, 2, acc_depth=16, mac="pair")]
SLOW = [
    ArrayConfig(4, 4, acc_depth=16, mac="uniform"),
    ArrayConfig(4, 4, acc_depth=16, mac="product", **MAGNITUDES),
    ArrayConfig(4, 8, code_bits=2, acc_depth=16, mac="uniform"),
    ArrayConfig(2, 2, code_bits=8, acc_depth=16, mac="uniform"),
    ArrayConfig(8, 4, code_bits=2, acc_depth=16, mac="square", activation_operand_bits=2),
    ArrayConfig(4, 4, code_bits=3, acc_depth=16, mac="square", weight_operand_bits=4),
    ArrayConfig(4, 4, code_bits=4, acc_depth=8, mac="square", activation_operand_bits=4,
                param_slots=2, burst=4, fetch_depth=8),
    ArrayConfig(2, 4, code_bits=2, acc_depth=16, mac="pair", burst=4, fetch_depth=8),
    ArrayConfig(4, 2, code_bits=5, acc_depth=16, mac="pair"),
    ArrayConfig(4, 4, code_bits=3, acc_depth=16, mac="product", **MAGNITUDES),
    ArrayConfig(4, 4, acc_depth=16, mac="uniform", products=True),
    ArrayConfig(4, 4, acc_depth=16, mac="square", products=True),
    ArrayConfig(4, 4, acc_depth=16, mac="pair", products=True),
    ArrayConfig(4, 2, acc_depth=16, mac="product", products=True, weight_magnitudes=(1, 3, 10),
                activation_magnitudes=(1, 5, 14, 41, 255)),
]  # fmt: skip
ARRAYS = [*FAST, *(pytest.param(config, marks=pytest.mark.slow) for config in SLOW)]
IMAGES = 2


@pytest.fixture(scope="module", params=ARRAYS, ids=lambda c: f"{c.mac}-{c}-{c.code_bits}bit")
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(request.param) as running:
        yield running


def check(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    """Compare every output integer with the model's, every layer's cycles with the prediction."""
    network = data.draw(networks_for(hardware.config))
    program = compile(network, hardware.config, latency)
    images = images_of(network, IMAGES)
    result = hardware.run(program, images)
    np.testing.assert_array_equal(result.y, network.run(network.encode(images)))
    predicted = [layer.cycles for layer in program.layers]
    assert result.layer_cycles.tolist() == [predicted] * IMAGES


@many(25)
@given(st.data(), st.sampled_from([1, 20]))
def test_random_networks(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    check(hardware, data, latency)


@pytest.mark.parametrize("hardware", FAST, indirect=True, ids=lambda c: c.mac)
def test_a_network_quantized_for_the_cells(hardware: Simulator) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 1)
    images = np.random.default_rng(0).normal(size=(8, 2, 4, 4)).astype(np.float32)
    network = quantize(
        torch.nn.Sequential(*layers), "W4A4", images, ends=None, method="search",
        cell=hardware.config.mac,
    )  # fmt: skip
    result = hardware.run(compile(network, hardware.config), images[:IMAGES])
    np.testing.assert_array_equal(result.y, network.run(network.encode(images[:IMAGES])))


@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("config", [*FAST, *SLOW[:2]], ids=lambda config: config.mac)
def test_icarus_computes_the_same(config: ArrayConfig) -> None:
    @many(10)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        check(hardware, data, 20)

    with Simulator(config, "icarus") as hardware:
        run()


@pytest.mark.slow
@many(150)
@given(st.data(), st.sampled_from([1, 5, 20, 100]))
def test_many_random_networks(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    check(hardware, data, latency)
