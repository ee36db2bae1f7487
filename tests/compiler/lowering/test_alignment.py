"""Parts that begin within a word: copied once for all that read them, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering import adapt
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import MaxPool, Mosaic, Select, SubtractMax
from nupes.model.tensor import Port
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.test_program import execute
from tests.images import images_of
from tests.model.tiny import requantize

BOOK = make_codebook("uniform", 4, True)
CONFIG = ArrayConfig(4, 4, acc_depth=8, attention=True)


def pooled(*ports: Port) -> IntegerNetwork:
    """Return max-pools of parts of a map (3, 2, 9), and the last one with the first one added."""
    source = coded("input", (3, 2, 9), BOOK)
    layers: list[Layer] = []
    for index, port in enumerate(ports):
        output = coded(f"pool {index}", port.shape(source.shape), BOOK)
        layers.append(Layer(output.name, MaxPool((1, 1), (1, 1)), (port,), output))
    height, width, channels = layers[-1].output.shape
    y, skip = wide("y", (height, width, channels)), Residual(ports[0], 3, 1)
    op, tail = Select.every(channels), requantize(channels)
    layers.append(layer_of("y", op, layers[-1].output.name, y, tail, residual=skip))
    return assemble(source, layers, (channels, height, width))


def check(network: IntegerNetwork) -> list[str]:
    """Compare a network's values; return the names of its layers on the array."""
    codes = network.encode(images_of(network, 1))
    program = compile(network, CONFIG)
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])
    return [layer.name for layer in program.layers]


def test_one_copy_for_all_that_read_a_part() -> None:
    part = Port("input", 2, 5)
    layers = ["input[2:7]", "pool 0", "pool 1", "y"]
    assert check(pooled(part, part)) == layers


def test_a_copy_has_a_name_of_its_own() -> None:
    network = pooled(Port("input", 2, 5))
    first, last = network.layers
    named = replace(first, name="input[2:7]")
    layers = check(replace(network, layers=(named, last)))
    assert layers == ["input[2:7]_", "input[2:7]", "y"]


def test_rows_of_a_part_are_another_part() -> None:
    part, rows = Port("input", 2, 5), Port("input", 2, 5, 1, 2)
    layers = ["input[2:7][1:3]", "pool 0", "input[2:7]", "pool 1", "pool 2", "y"]
    assert check(pooled(rows, part, rows)) == layers


def test_what_begins_with_a_word_is_read_where_it_lies() -> None:
    network = pooled(Port("input", 4, 5), Port("input", 4, 5))
    assert adapt(network, CONFIG) is network
    assert adapt(network, ArrayConfig(8, 8)) is not network


def test_copies_are_of_codes() -> None:
    network = adapt(pooled(Port("input", 1, 3)), CONFIG)
    copy = network.layers[0]
    assert isinstance(copy.op, Mosaic)
    assert (copy.post, copy.output.format) == (None, network.tensors["input"].format)


def test_parts_of_wide_tensors_are_refused_by_name() -> None:
    source, tail = coded("input", (3, 1, 6), BOOK), requantize(6)
    scores = layer_of("scores", Select.every(6), "input", wide("scores", (3, 1, 6)), tail)
    y = wide("y", (3, 1, 5))
    last = layer_of("y", SubtractMax(), "scores", y, requantize(5))
    last = Layer("y", last.op, (Port("scores", 1),), y, last.post)
    with pytest.raises(UnsupportedError) as error:
        compile(assemble(source, [scores, last], (3, 5)), CONFIG)
    assert str(error.value) == (
        "layer 'y': channels read of tensor 'scores' must begin at a multiple of 4 here, not at 1"
    )
