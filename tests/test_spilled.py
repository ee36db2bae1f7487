"""Maps larger than the activation memory, on the hardware: every integer, each layer's cycles."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import nupes
from nupes.arch.config import ArrayConfig
from nupes.compiler.program import Program, compile
from nupes.model.errors import CapacityError
from nupes.sim.simulator import Simulator
from tests.networks import many
from tests.quantizer.close import images
from tests.spilled import spilled_programs, spills
from tests.test_batches import check
from tests.test_equivalence import STALLS

ARRAYS = [
    ArrayConfig(4, 4, acc_depth=16, products=True, spills=True),
    ArrayConfig(8, 4, code_bits=3, acc_depth=16, burst=4, fetch_depth=8, spills=True),
]


@pytest.fixture(scope="module", params=ARRAYS, ids=str)
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(request.param) as running:
        yield running


@pytest.mark.slow
def test_spilled_networks_are_exact(hardware: Simulator) -> None:
    @many(8)
    @given(spilled_programs(hardware.config), st.integers(1, 2), STALLS)
    def run(program: Program, number: int, stalls: nupes.Stalls) -> None:
        check(hardware, program, number)
        check(hardware, program, number, stalls)

    run()


@pytest.mark.slow
def test_spilled_networks_of_a_batch_are_exact(hardware: Simulator) -> None:
    @many(3)
    @given(spilled_programs(hardware.config, batch=3))
    def run(program: Program) -> None:
        check(hardware, program, 4)

    run()


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            *(nn.Conv2d(channels, wide, 1), nn.ReLU6()),
            *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.ReLU6()),
            nn.Conv2d(wide, channels, 1),
        )
        self.shortcut = stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return x + self.parts(x) if self.shortcut else self.parts(x)


def stem(pool: bool) -> nn.Module:
    """Return a first convolution, a pool behind it or none, blocks and a classifier."""
    first = [nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), *([nn.MaxPool2d(3, 2, 1)] if pool else [])]
    blocks = [Block(8, 24, 1), Block(8, 20, 2)]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.slow
@pytest.mark.parametrize("pool", [False, True])
def test_blocks_of_large_maps_are_exact(running: Callable[..., Simulator], pool: bool) -> None:
    """A packed input, an 8-bit skip tensor, depthwise layers and a max-pool."""
    torch.manual_seed(0)
    module, x = stem(pool).eval(), images(4, 1, 20, 20)
    network = nupes.quantize(module, "W4A4", x, method="rtn", ends=8, input_bits=8, residual_bits=8)
    (array, _), cycles = ARRAYS, []
    whole = compile(network, replace(array, act_depth=1 << 14))
    assert not spills(whole)
    for depth in (512, 1024, 1536):
        program = replace(compile(network, replace(array, act_depth=depth)), array=array)
        assert spills(program)
        check(running(array), program, 2)
        cycles.append(program.cycles)
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] > whole.cycles


@pytest.mark.slow
def test_what_fits_is_not_spilled() -> None:
    torch.manual_seed(0)
    module, x = stem(True).eval(), images(4, 1, 16, 16)
    network = nupes.quantize(module, "W4A4", x, method="rtn")
    plain, able = (compile(network, replace(ARRAYS[0], spills=value)) for value in (False, True))
    assert plain.cycles == able.cycles
    np.testing.assert_array_equal(plain.image, able.image)


@pytest.mark.slow
def test_what_cannot_be_spilled_is_refused() -> None:
    torch.manual_seed(0)
    module, x = nn.Conv2d(3, 4, 1).eval(), images(4, 3, 16, 16)
    network = nupes.quantize(module, "W4A4", x, method="rtn")
    with pytest.raises(CapacityError, match="act_depth is 64: tensor"):
        compile(network, replace(ARRAYS[0], act_depth=64))


def test_no_bus_takes_what_is_stored() -> None:
    with pytest.raises(nupes.InputError, match="bus must be None with spills=True"):
        Simulator(ARRAYS[0], bus="axi4")
