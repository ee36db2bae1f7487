"""Inputs that pass through memory block by block, on the RTL: exact, in the predicted cycles."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import nupes
from nupes.compiler.lowering import arrange
from nupes.compiler.place.patching import Packing
from nupes.compiler.place.strips import Strips
from nupes.model.network import IntegerNetwork
from nupes.sim.simulator import Stalls
from nupes.verify import check_outputs
from tests.images import all_images_of
from tests.packed import comes_in_blocks, compile_within, least_depth
from tests.quantizer.close import images
from tests.small import ARRAY
from tests.whole import check_exact

Running = Callable[..., nupes.Simulator]

LITTLE = nupes.ArrayConfig(4, 4, acc_depth=16, act_depth=512)


def network_of(channels: int, scheme: str, size: int = 11) -> IntegerNetwork:
    """Return a 7x7 convolution of one channel and one behind it, quantized."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, channels, 7, padding=3), nn.Conv2d(channels, 5, 3, 4)
    module, x = nn.Sequential(first, nn.ReLU(), second), images(16, 1, size, size)
    return nupes.quantize(module.eval(), scheme, x, method="rtn", input_bits=int(scheme[-1]))


def depth_for(network: IntegerNetwork, held: int) -> int:
    """Return the least memory in which so many pixels of the packed input have their place."""
    for depth in count(least_depth(network, ARRAY)):
        packing = arrange(network, replace(ARRAY, act_depth=depth)).packing
        if isinstance(packing, Packing) and packing.patches.held >= held:
            break
    return depth


@pytest.mark.parametrize("held", [16, 8])
@pytest.mark.parametrize("scheme", ["W4A4", "W8A8"])
@pytest.mark.parametrize("channels", [3, 9])
def test_blocks_are_exact(running: Running, channels: int, scheme: str, held: int) -> None:
    """One column tile or three; one digit or two of weights and input; a last block of 9 or 1."""
    network = network_of(channels, scheme)
    x, hardware = all_images_of(network, 2), running(ARRAY)
    (y,) = network.run_all(*network.encode_all(*x))
    for latency in (1, 20, 100):
        program = compile_within(network, ARRAY, depth_for(network, held), latency)
        assert comes_in_blocks(program)
        assert check_outputs(hardware, program, x).exact
        stalls = Stalls(0.4, 0.4, 0.4, seed=latency)
        np.testing.assert_array_equal(hardware.run(program, x, stalls=stalls).y, y)


@pytest.mark.parametrize("channels", [3, 9])
def test_blocks_of_one_pixel_are_exact(running: Running, channels: int) -> None:
    network = network_of(channels, "W4A4", 5)
    program = compile_within(network, ARRAY, least_depth(network, ARRAY))
    assert comes_in_blocks(program)
    assert check_outputs(running(ARRAY), program, all_images_of(network, 2)).exact


@pytest.mark.slow
def test_every_stored_value_behind_blocks_is_exact(running: Running) -> None:
    network = network_of(3, "W4A4")
    assert comes_in_blocks(nupes.compile(network, LITTLE))
    check_exact(running, network, (images(16, 1, 11, 11),), LITTLE)


@pytest.mark.parametrize("channels", [3, 9])
def test_strips_are_exact(running: Running, channels: int) -> None:
    """An input that comes row by row, ahead of the blocks that read it."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, channels, (7, 4), padding=(3, 2)), nn.Conv2d(channels, 5, 3, 4)
    module, x = nn.Sequential(first, nn.ReLU(), second), images(16, 1, 11, 11)
    network = nupes.quantize(module.eval(), "W8A8", x, method="rtn", input_bits=8)
    hardware, seen = running(ARRAY), all_images_of(network, 2)
    assert isinstance(arrange(network, ARRAY).packing, Strips)
    for latency in (1, 100):
        program = nupes.compile(network, ARRAY, latency)
        assert check_outputs(hardware, program, seen).exact
    stalls = Stalls(0.4, 0.4, 0.4, seed=1)
    (y,) = network.run_all(*network.encode_all(*seen))
    np.testing.assert_array_equal(hardware.run(program, seen, stalls=stalls).y, y)
