"""Concatenations: what lies in place moves nothing, everything else is copied, exactly."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Concat, Conv, MaxPool, Operator
from nupes.model.tensor import Port
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.test_program import ARRAYS, execute
from tests.images import images_of
from tests.model.tiny import requantize
from tests.networks import networks

BOOK, WEIGHTS = make_codebook("uniform", 4, False), make_codebook("uniform", 4, True)
CONFIG = ArrayConfig(4, 4, acc_depth=8)
SHAPE = (5, 3)


def one_by_one(inputs: int, outputs: int, seed: int = 0) -> Conv:
    """Return a random 1x1 convolution."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, len(WEIGHTS), (outputs, inputs, 1, 1)).astype(np.uint8)
    return Conv(codes, WEIGHTS, np.ones(outputs))


class Graph:
    """A network over a map of ``SHAPE``, layer by layer; all tensors share one codebook."""

    def __init__(self, channels: int = 3) -> None:
        self.source = coded("input", (*SHAPE, channels), BOOK)
        self.channels = {"input": channels}
        self.layers: list[Layer] = []

    def add(self, name: str, op: Operator, *sources: str) -> str:
        """Add a layer that stores the tensor ``name``."""
        shape = op.shape(*((*SHAPE, self.channels[source]) for source in sources))
        tail = encoder = None
        if not op.copies:
            steps = np.arange(1, 16, dtype=np.int16) * 300 - 2000
            encoder = Encoder(steps, np.arange(16, dtype=np.uint8))
            tail = requantize(shape[2])
        self.layers.append(
            layer_of(name, op, sources, coded(name, shape, BOOK), tail, encoder=encoder)
        )
        self.channels[name] = shape[2]
        return name

    def conv(self, name: str, source: str, channels: int) -> str:
        """Add a random 1x1 convolution."""
        op = one_by_one(self.channels[source], channels, len(self.layers))
        return self.add(name, op, source)

    def concat(self, name: str, *sources: str) -> str:
        """Add a concatenation."""
        return self.add(name, Concat(), *sources)

    def network(self, last: str) -> IntegerNetwork:
        """Return the network whose results are sums over the channels of ``last``."""
        op = one_by_one(self.channels[last], 3, 99)
        layer = layer_of("last", op, last, wide("y", (*SHAPE, 3)), requantize(3))
        return assemble(self.source, [*self.layers, layer], (3, *SHAPE))


def check(network: IntegerNetwork, tiles: Sequence[int], config: ArrayConfig = CONFIG) -> None:
    """Compare a network's values, and the tiles of its concatenations."""
    program = compile(network, config)
    codes = network.encode(images_of(network, 2))
    for image, y in zip(codes, network.run(codes), strict=True):
        np.testing.assert_array_equal(execute(program, image), y)
    pairs = zip(network.layers, program.layers, strict=True)
    joins = [report for layer, report in pairs if layer.op.kind == "concat"]
    assert [report.tiles for report in joins] == list(tiles)
    assert all((report.cycles == 0) == (report.tiles == 0) for report in joins)
    assert sum(report.cycles for report in program.layers) == program.cycles


BLOCKS = 2
"""Blocks of 8 of 15 pixels."""


def test_parts_that_begin_with_a_word_are_written_in_place() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 8), graph.conv("b", "input", 3)
    graph.concat("ab", one, two)
    check(graph.network("ab"), [0])


def test_a_part_within_a_word_is_copied_with_what_it_shares_the_word_with() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 6), graph.conv("b", "input", 5)
    graph.concat("ab", one, two)
    # Words 1 (two channels of each) and 2: one pass of a, one and two of b, whose words straddle.
    check(graph.network("ab"), [(2 + 2) * BLOCKS])


def test_the_input_is_copied() -> None:
    graph = Graph(channels=4)
    graph.concat("ab", graph.conv("a", "input", 4), "input")
    check(graph.network("ab"), [1 * BLOCKS])


def test_a_tensor_with_itself() -> None:
    graph = Graph()
    one = graph.conv("a", "input", 4)
    graph.concat("aa", one, one)
    check(graph.network("aa"), [1 * BLOCKS])


def test_the_output_of_a_max_pool_lies_in_place() -> None:
    graph = Graph()
    one = graph.conv("a", "input", 4)
    two = graph.add("pool", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), graph.conv("b", "input", 6))
    graph.concat("ab", one, two)
    check(graph.network("ab"), [0])


def test_growing_concatenations_lie_in_one_tensor() -> None:
    graph, last = Graph(), ""
    for index in range(4):
        new = graph.conv(f"new{index}", last or "input", 4)
        last = graph.concat(f"all{index}", last, new) if index else new
    check(graph.network(last), [0, 0, 0])


@pytest.mark.parametrize("channels", [(4, 8, 4, 4), (4, 6, 5, 4)])
def test_growing_lists_lie_in_one_tensor(channels: tuple[int, ...]) -> None:
    graph = Graph()
    parts = [graph.conv("new", "input", channels[0])]
    last = parts[0]
    for index, count in enumerate(channels[1:]):
        parts.append(graph.conv(f"new{index}", last, count))
        last = graph.concat(f"all{index}", *parts)
    if channels[1] == 8:
        check(graph.network(last), [0, 0, 0])
    else:
        # What begins within a word is copied, with what shares its words.
        copies = [0, 2 + 2, 2 + 3 + 1]
        check(graph.network(last), [count * BLOCKS for count in copies])


def test_a_part_of_two_results_lies_in_the_first() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 4), graph.conv("b", "input", 4)
    first, second = graph.concat("ab", one, two), graph.concat("ba", two, one)
    graph.concat("all", first, second)
    check(graph.network("all"), [0, 2 * BLOCKS, 0])


def test_a_part_is_read_by_others_after_the_result_was_written() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 6), graph.conv("b", "input", 6)
    graph.concat("ab", one, two)
    graph.concat("more", graph.conv("c", "a", 4), graph.conv("d", "ab", 4), "b")
    check(graph.network("more"), [(2 + 2) * BLOCKS, 0])


def test_a_range_of_channels_is_copied() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 8), graph.conv("b", "input", 8)
    graph.concat("ab", one, two)
    ports = (Port(one, 1, 4), Port(two, 3))
    graph.layers[-1] = Layer("ab", Concat(), ports, coded("ab", (*SHAPE, 9), BOOK))
    graph.channels["ab"] = 9
    check(graph.network("ab"), [(2 + 2 + 1) * BLOCKS])


def test_all_ranges_of_a_tensor_in_their_order_lie_in_place() -> None:
    graph = Graph()
    one, two = graph.conv("a", "input", 8), graph.conv("b", "input", 8)
    graph.concat("ab", two, one, two)
    ports = (Port(two), Port(one, 0, 3), Port(one, 3))
    graph.layers[-1] = Layer("ab", Concat(), ports, coded("ab", (*SHAPE, 16), BOOK))
    graph.channels["ab"] = 16
    check(graph.network("ab"), [0])


def test_parts_lie_apart_where_the_result_would_not_fit() -> None:
    graph = Graph()
    one = graph.conv("a", "input", 4)
    long = graph.conv("b1", graph.conv("b0", "input", 16), 16)
    graph.concat("ab", one, graph.conv("b", long, 4))
    network, pixels = graph.network("ab"), SHAPE[0] * SHAPE[1]
    check(network, [0], ArrayConfig(4, 4, acc_depth=8, act_depth=10 * pixels))
    check(network, [2 * BLOCKS], ArrayConfig(4, 4, acc_depth=8, act_depth=9 * pixels))


@pytest.mark.parametrize("mac", ["uniform", "square", "pair"])
def test_cells_that_multiply_digits_copy_too(mac: str) -> None:
    graph = Graph()
    graph.concat("ab", graph.conv("a", "input", 3), graph.conv("b", "input", 3))
    check(graph.network("ab"), [3 * BLOCKS], ArrayConfig(4, 4, mac=mac, acc_depth=8))


@settings(max_examples=60)
@given(networks(most_layers=6, also=("concat",)), ARRAYS)
def test_random_concatenations(network: IntegerNetwork, config: ArrayConfig) -> None:
    program = compile(network, config)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])
    assert sum(layer.cycles for layer in program.layers) == program.cycles
