"""The central property: model, program and hardware agree on random whole networks.

Every output integer of the Verilator simulation equals the integer model's, and every layer takes
exactly the cycles that the compiler predicted, for memories of any latency; with stalls the cycles
change and the values do not.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import INSTRUCTION as FIELDS
from nupes.arch.isa import Opcode, unpack
from nupes.compiler.emit.instructions import Tile
from nupes.compiler.program import Program, compile
from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.sim.simulator import SimulationResult, Simulator, Stalls
from tests.assemble import assemble, coded, layer_of, wide
from tests.images import all_images_of
from tests.networks import kinds_of, many, networks
from tests.packed import tight_programs
from tests.rtl.tiles import run_of

# Accumulators of 16 pixels cut most maps into several blocks.
FAST = [
    ArrayConfig(4, 4, acc_depth=16),
    ArrayConfig(4, 4, acc_depth=16, products=True),
]
SLOW = [
    ArrayConfig(4, 8, code_bits=2, acc_depth=16),
    ArrayConfig(8, 4, code_bits=3, acc_depth=16),
    ArrayConfig(2, 2, code_bits=8, acc_depth=16),
    # A port of 256 bits, one word per instruction.
    ArrayConfig(2, 32, code_bits=8, acc_depth=16),
    # The smallest buffers and slots.
    ArrayConfig(16, 4, code_bits=3, acc_depth=8, param_slots=2, burst=4, fetch_depth=8),
    ArrayConfig(4, 4, code_bits=5, acc_depth=4, param_slots=2, burst=1, fetch_depth=2),
    ArrayConfig(8, 4, code_bits=3, acc_depth=16, products=True),
    # The residual is read in the cycle of the issue.
    ArrayConfig(
        2, 2, code_bits=2, acc_depth=8, param_slots=2, burst=4, fetch_depth=8, products=True
    ),
]
ARRAYS = [*FAST, *(pytest.param(config, marks=pytest.mark.slow) for config in SLOW)]
IMAGES = 2


def name_of(config: ArrayConfig) -> str:
    """Return the name of an array in the names of tests."""
    return f"{config}-{config.code_bits}bit{'-products' * config.products}"


@pytest.fixture(scope="module", params=ARRAYS, ids=name_of)
def hardware(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Return a running accelerator."""
    with Simulator(request.param) as running:
        yield running


def draw(data: st.DataObject, hardware: Simulator, most_layers: int = 4) -> IntegerNetwork:
    """Draw a network of operators that the hardware has."""
    return data.draw(networks(most_layers, also=kinds_of(hardware.config)))


def check(hardware: Simulator, network: IntegerNetwork, latency: int = 20) -> None:
    """Run a network on the hardware; compare every integer and every layer's cycles."""
    check_program(hardware, compile(network, hardware.config, latency))


def check_program(hardware: Simulator, program: Program) -> None:
    """Run a program on the hardware; compare every integer and every layer's cycles."""
    network, images = program.network, all_images_of(program.network, IMAGES)
    result = hardware.run(program, images)
    check_values(result, network, images)
    for found, expected in zip(each(result.outputs), each(network(*images)), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert result.cycles == [program.cycles] * IMAGES
    predicted = [layer.cycles for layer in program.layers]
    assert result.layer_cycles.tolist() == [predicted] * IMAGES
    assert sum(predicted) == program.cycles


def check_values(
    result: SimulationResult, network: IntegerNetwork, images: tuple[np.ndarray, ...]
) -> None:
    """Compare every integer of every output."""
    expected = network.run_all(*network.encode_all(*images))
    for y, values in zip(each(result.y), expected, strict=True):
        np.testing.assert_array_equal(y, values)


def each(outputs: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Return the values of every output."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


@many(100)
@given(st.data())
def test_random_networks(hardware: Simulator, data: st.DataObject) -> None:
    check(hardware, draw(data, hardware))


@many(40)
@given(st.data(), st.sampled_from([1, 5, 100]))
def test_memories_of_any_latency(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    check(hardware, draw(data, hardware), latency)


@many(40)
@given(st.data(), st.booleans())
def test_several_inputs_and_outputs(hardware: Simulator, data: st.DataObject, held: bool) -> None:
    check(hardware, data.draw(networks(5, also=kinds_of(hardware.config), several=True, held=held)))


@many(40)
@given(st.data(), st.sampled_from([1, 20, 100]))
def test_random_networks_in_little_memory(
    hardware: Simulator, data: st.DataObject, latency: int
) -> None:
    check_program(hardware, data.draw(tight_programs(hardware.config, latency)))


def check_stalled(hardware: Simulator, program: Program, stalls: Stalls) -> None:
    """Compare every output of a run with random back-pressure; its cycles are its own."""
    images = all_images_of(program.network, 1)
    check_values(hardware.run(program, images, stalls=stalls), program.network, images)


PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 0.9])
STALLS = st.builds(Stalls, PROBABILITY, PROBABILITY, PROBABILITY, seed=st.integers(1, 2**32 - 1))


@many(10)
@given(st.data(), STALLS, st.integers(1, 50))
def test_stalls_change_no_value_of_several_inputs_and_constants(
    hardware: Simulator, data: st.DataObject, stalls: Stalls, latency: int
) -> None:
    held = data.draw(st.booleans())
    network = data.draw(networks(3, also=kinds_of(hardware.config), several=True, held=held))
    check_stalled(hardware, compile(network, hardware.config, latency), stalls)


@many(20)
@given(st.data(), STALLS, st.integers(1, 50))
def test_stalls_change_no_value_in_little_memory(
    hardware: Simulator, data: st.DataObject, stalls: Stalls, latency: int
) -> None:
    check_stalled(hardware, data.draw(tight_programs(hardware.config, latency)), stalls)


@many(40)
@given(st.data(), STALLS, st.integers(1, 50))
def test_stalls_change_no_value(
    hardware: Simulator, data: st.DataObject, stalls: Stalls, latency: int
) -> None:
    check_stalled(hardware, compile(draw(data, hardware), hardware.config, latency), stalls)


@pytest.mark.slow
@many(300)
@given(st.data(), st.sampled_from([1, 5, 20, 100]))
def test_many_random_networks(hardware: Simulator, data: st.DataObject, latency: int) -> None:
    check(hardware, draw(data, hardware, most_layers=6), latency)


@pytest.mark.slow
@many(150)
@given(st.data(), STALLS, st.integers(1, 50))
def test_many_stalls(
    hardware: Simulator, data: st.DataObject, stalls: Stalls, latency: int
) -> None:
    check_stalled(hardware, compile(draw(data, hardware), hardware.config, latency), stalls)


def linear(channels: int) -> IntegerNetwork:
    """Return one linear layer without rounding or saturation: each weight moves its output."""
    weights, codes = make_codebook("uniform", 2, True), make_codebook("uniform", 2, False)
    op = Conv(np.ones((channels, channels, 1, 1), np.uint8), weights, np.ones(channels))
    one = np.ones(channels, np.int32)
    tail = Requantize(2 * one, 0 * one.astype(np.int64), one)
    layer = layer_of("linear", op, "input", wide("y", (1, 1, channels)), tail)
    return assemble(coded("input", (1, 1, channels), codes), [layer], (channels,))


def short_tiles(config: ArrayConfig) -> IntegerNetwork:
    """Return a 3x3 convolution of several words of channels over a map of four pixels."""
    rng, bits = np.random.default_rng(1), config.code_bits
    inputs, weights = make_codebook("uniform", bits, False), make_codebook("uniform", bits, True)
    middle, channels = 3 * config.lanes, 2 * config.cols

    def conv(count: int, per_group: int, size: int) -> Conv:
        codes = rng.integers(0, len(weights), (count, per_group, size, size)).astype(np.uint8)
        side = size // 2
        return Conv(codes, weights, np.ones(count), padding=(side, side, side, side))

    def tail(count: int, shift: int) -> Requantize:
        one = np.ones(count, np.int32)
        return Requantize(40000 * one, 0 * one.astype(np.int64), shift * one)

    steps = np.sort(rng.integers(-900, 900, len(inputs) - 1)).astype(np.int16)
    encoder = Encoder(steps, np.arange(len(inputs), dtype=np.uint8))
    hidden = coded("hidden", (2, 2, middle), inputs)
    layers = [
        layer_of("first", conv(middle, 1, 1), "input", hidden, tail(middle, 10), encoder=encoder),
        layer_of("y", conv(channels, middle, 3), "hidden", wide("y", (2, 2, channels)),
                 tail(channels, 14 + bits)),
    ]  # fmt: skip
    return assemble(coded("input", (2, 2, 1), inputs), layers, (2, 2, channels))


def test_runs_of_tiles(hardware: Simulator) -> None:
    """Taps, words of channels and slices of words, with any latency and with stalls."""
    config, network = hardware.config, short_tiles(hardware.config)
    instructions = compile(network, config).schedule.instructions
    runs = [item.run for item in instructions if isinstance(item, Tile) and item.run is not None]
    assert any(run.x for run in runs)
    assert any(run.step and not run.x and run.more > 1 for run in runs)
    assert any(run.slices for run in runs) == (config.rows < config.cols)
    for latency in (1, 20, 100):
        check(hardware, network, latency)
    check_stalled(hardware, compile(network, config), Stalls(0.5, 0.5, 0.5, seed=3))


def weight_words(program: Program) -> list[int]:
    """Return the image addresses of every weight row of a program."""
    config, position, rows = program.array, 0, []
    while True:
        words = program.image[position : position + config.instruction_words]
        packed = sum(
            int(part) << (config.port_bits * i + 64 * j)
            for i, word in enumerate(words)
            for j, part in enumerate(word)
        )
        fields = unpack(FIELDS, packed)
        position += config.instruction_words
        if fields["opcode"] == Opcode.END:
            return rows
        if fields["opcode"] == Opcode.TILE:
            count = fields["rows"] * (run_of(packed)["more"] + 1)
            rows += range(position, position + count)
            position += count
        elif fields["opcode"] == Opcode.LOAD:
            position += fields["count"]


def test_one_wrong_weight_code_is_seen(hardware: Simulator) -> None:
    """The comparison can fail: each changed code in the program image changes its own output."""
    config = hardware.config
    channels = config.rows + 1
    network = linear(channels)
    program = compile(network, config)
    images = np.full((1, channels, 1, 1), 3.0)
    want = network.run(network.encode(images))[0]
    assert len(weight_words(program)) == channels * -(-channels // config.cols)
    for place, address in enumerate(weight_words(program)):
        lane = place % config.cols
        column = place // channels * config.cols + lane
        image = program.image.copy()
        # Code 1 (level 0) becomes code 0 (level -1), times the input's 3.
        image[address, 0] ^= np.uint64(1 << (lane * config.code_bits))
        faulty = replace(program)
        faulty.__dict__["image"] = image  # in place of the cached property
        change = hardware.run(faulty, images).y[0] - want
        expected = np.zeros(channels, np.int16)
        expected[column : column + 1] = -3  # a lane beyond the last channel changes nothing
        np.testing.assert_array_equal(change, expected)
