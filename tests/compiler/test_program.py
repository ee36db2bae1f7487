"""Programs: what they mean equals the model on any array; images, holes, results, reports."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.arch.encoding import checksum
from nupes.arch.isa import (
    CHECKSUM_BITS,
    INSTRUCTION,
    STREAMED,
    STREAMED_POSITION,
    Opcode,
    Status,
    unpack,
)
from nupes.compiler.program import Program, compile
from nupes.model.network import IntegerNetwork
from tests.compiler.place.test_packing import integers
from tests.images import images_of
from tests.model.tiny import tiny_network
from tests.networks import networks
from tests.rtl.interpreter import Machine
from tests.rtl.tiles import run_of

SIZES = st.sampled_from([(2, 2), (4, 4), (2, 8), (8, 4), (16, 16), (16, 4)])
ARRAYS = st.builds(
    lambda size, bits, depth, slots, burst: ArrayConfig(
        *size, code_bits=bits, acc_depth=depth, param_slots=slots, burst=burst
    ),
    SIZES, st.integers(2, 8), st.sampled_from([4, 16, 512]), st.sampled_from([2, 32]),
    st.sampled_from([1, 8, 32]),
)  # fmt: skip


def execute(
    program: Program, *codes: np.ndarray, garbage: int = 1, late: bool = False
) -> np.ndarray:
    """Return the ``y`` of one image's input codes from an interpreter of the instruction set, whose
    memory holds ``garbage`` in every word, and whose tiles do their work at once or ``late``."""
    # What no LOAD wrote holds garbage.
    machine = Machine(program.array, defaultdict(lambda: garbage), late=late)
    (y,) = run_on(machine, program, *codes)
    return y[0]


def run_on(machine: Machine, program: Program, *codes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the ``y`` of every output from a machine, for the input codes of an image or a
    batch."""
    image = program.image.copy()
    addresses, words = program.input_patches(*codes)
    image[addresses] = words
    machine.run(integers(image))
    assert machine.status == Status.OK
    return program.outputs(np.array(machine.results, np.int16))


@settings(max_examples=30)
@given(networks(), ARRAYS)
def test_programs_mean_what_the_network_means(network: IntegerNetwork, config: ArrayConfig) -> None:
    codes = network.encode(images_of(network, 1))
    program = compile(network, config)
    for late in (False, True):
        np.testing.assert_array_equal(execute(program, codes[0], late=late), network.run(codes)[0])


def instructions(program: Program) -> list[dict[str, int]]:
    """Return the instructions of an image; each must have a right checksum."""
    words, config, found, position = integers(program.image), program.array, [], 0
    while position < len(words):
        packed = 0
        for index in range(config.instruction_words):
            packed |= words[position + index] << (config.port_bits * index)
        body_bits = INSTRUCTION_BITS - CHECKSUM_BITS
        body = packed & ((1 << body_bits) - 1)
        assert packed >> body_bits == checksum(body)
        fields = unpack(INSTRUCTION, body)
        payload = 0
        if fields["opcode"] == Opcode.LOAD:
            payload = fields["count"]
        elif fields["opcode"] == Opcode.TILE:
            streamed = unpack(STREAMED, body >> STREAMED_POSITION)
            each = 0 if streamed["kept"] else 1 + fields["masked"] + streamed["weights_joined"]
            payload = fields["rows"] * each * (run_of(body)["more"] + 1)
        found.append(fields | run_of(body))
        position += config.instruction_words + payload
    assert position == len(words)
    return found


@settings(max_examples=50)
@given(networks(), ARRAYS)
def test_images_are_well_formed(network: IntegerNetwork, config: ArrayConfig) -> None:
    program = compile(network, config)
    found = instructions(program)
    assert [item["opcode"] for item in found].count(Opcode.END) == 1
    assert found[-1]["opcode"] == Opcode.END
    marks = [item["mark"] for item in found if item["opcode"] in (Opcode.TILE, Opcode.POOL)]
    assert marks[0] == 1
    assert sum(marks) == len(program.marked)
    carried = sum(item["more"] for item in found)
    assert len(marks) + carried == sum(layer.tiles for layer in program.layers)
    # The holes are as many as the input words, all different, and 0 in the image.
    holes = program.holes
    codes = network.encode(images_of(network, 1))[0]
    addresses, words = program.input_patches(codes)
    assert len(set(holes.tolist())) == len(holes) == len(words) == len(addresses)
    assert not program.image[holes].any()


@given(networks(), ARRAYS)
def test_reports_add_up(network: IntegerNetwork, config: ArrayConfig) -> None:
    program = compile(network, config)
    assert [layer.name for layer in program.layers] == [layer.name for layer in network.layers]
    assert sum(layer.cycles for layer in program.layers) == program.cycles
    assert {layer.name: layer.macs for layer in program.layers} == network.macs
    total = sum(network.macs.values())
    assert program.utilization == pytest.approx(
        total / (config.rows * config.cols * program.cycles)
    )
    assert 0 <= program.utilization <= 1


def test_compiling_is_deterministic() -> None:
    one, other = (compile(tiny_network(), ArrayConfig(4, 4)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    assert one.timeline == other.timeline


def test_one_wrong_bit_is_a_bad_instruction() -> None:
    program = compile(tiny_network(), ArrayConfig(4, 4))
    words = integers(program.image)
    words[1] ^= 1 << 17
    machine = Machine(program.array)
    machine.run(words)
    assert machine.status == Status.BAD_INSTRUCTION


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (8, 16), (16, 16), (32, 32)])
def test_advertised_arrays(size: tuple[int, int]) -> None:
    network = tiny_network()
    codes = network.encode(images_of(network, 1))
    program = compile(network, ArrayConfig(*size))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])
