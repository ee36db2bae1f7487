"""Batches on the hardware: every image's integers, and every layer's cycles, for random networks,
whose first layers run image by image where the memory does not hold them all."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.schedules import schedule
from nupes.compiler.program import Program, compile
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from nupes.sim.jobs import NO_STALLS
from nupes.sim.simulator import Simulator, Stalls
from tests.depthwise import depthwise_networks, narrow_maps
from tests.images import all_images_of
from tests.networks import kinds_of, many, networks
from tests.packed import packed_networks
from tests.small import ARRAY, small_network
from tests.test_equivalence import STALLS, check_values

ARRAYS = [
    ArrayConfig(4, 4, acc_depth=16, products=True),
    ArrayConfig(8, 4, code_bits=3, acc_depth=16, products=True),
]


@pytest.fixture(scope="module", params=ARRAYS, ids=str)
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(request.param) as running:
        yield running


@st.composite
def batches(draw: st.DrawFn, config: ArrayConfig) -> Program:
    """Draw a program for several images, in memory that holds all tensors of all of them, or
    fewer."""
    several, held = draw(st.booleans()), draw(st.booleans())
    kinds = networks(4, also=kinds_of(config), several=several, held=held)
    packed = packed_networks(config, several=several, held=held)
    network = draw(kinds | packed | depthwise_networks(config) | narrow_maps(config))
    images = draw(st.integers(2, 5))
    most = schedule(network, config, images).act_words
    depth = max(4, most * draw(st.integers(1, 8)) // 8)
    try:
        program = compile(network, replace(config, act_depth=depth), batch=images)
    except CapacityError:
        program = compile(network, config, batch=images)
    return replace(program, array=config)


def check(hardware: Simulator, program: Program, number: int, stalls: Stalls | None = None) -> None:
    """Run some images; compare every integer, and every layer's cycles if nothing stalls."""
    images = all_images_of(program.network, number)
    result = hardware.run(program, images, stalls=stalls or NO_STALLS)
    check_values(result, program.network, images)
    if stalls is None:
        runs = -(-number // program.batch)
        assert result.cycles == [program.cycles] * runs
        predicted = [layer.cycles for layer in program.layers]
        assert result.layer_cycles.tolist() == [predicted] * runs
        assert sum(predicted) == program.cycles


@pytest.mark.slow
@many(60)
@given(st.data())
def test_random_networks(hardware: Simulator, data: st.DataObject) -> None:
    program = data.draw(batches(hardware.config))
    check(hardware, program, program.batch)


@pytest.mark.slow
@many(15)
@given(st.data(), STALLS)
def test_stalls_change_no_value(hardware: Simulator, data: st.DataObject, stalls: Stalls) -> None:
    program = data.draw(batches(hardware.config))
    check(hardware, program, program.batch, stalls)


def test_the_last_batch_may_miss_images() -> None:
    program = compile(small_network(), ARRAY, batch=3)
    assert len(program.schedule.layers) < 3 * len(program.layers)
    with Simulator(ARRAY) as hardware:
        check(hardware, program, 4)
        done: list[tuple[int, int]] = []
        images = all_images_of(program.network, 4)
        hardware.run(program, images, progress=lambda *count: done.append(count))
        assert done == [(3, 4), (4, 4)]


def cycles_of(network: IntegerNetwork, config: ArrayConfig, batch: int) -> float:
    """Return the cycles of an image."""
    return compile(network, config, batch=batch).cycles_per_image


def test_an_image_takes_fewer_cycles_in_a_batch() -> None:
    one, four, eight = (cycles_of(small_network(), ARRAY, batch) for batch in (1, 4, 8))
    assert eight < four < one


def test_inputs_are_those_of_each_image() -> None:
    program = compile(small_network(), ARRAY, batch=3)
    (codes,) = program.network.encode_all(*all_images_of(program.network, 3))
    places, words = program.input_patches(codes)
    assert len(set(places.tolist())) == len(places) == len(words)
    for image, part in enumerate(np.split(words, 3)):
        alone = compile(small_network(), ARRAY).input_patches(codes[image])[1]
        np.testing.assert_array_equal(part, alone)
