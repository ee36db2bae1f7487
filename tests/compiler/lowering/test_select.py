"""Selections: channels that begin with a word stay where they are, all others are copied."""

import numpy as np
import pytest

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.layer import Encoder, Layer, Post, Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.operators import MaxPool, Select
from nupes.model.tensor import Port, Tensor
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.test_program import execute
from tests.images import images_of
from tests.networks import exact, unit

BOOK = make_codebook("uniform", 4, False)
SHAPE = (5, 3)
CONFIG = ArrayConfig(4, 4, acc_depth=8)


def selection(
    op: Select,
    port: Port,
    channels: int,
    tail: Requantize | None = None,
    encoder: Encoder | None = None,
) -> IntegerNetwork:
    """Return a network that selects from a copy of its input, and pools what is selected."""

    def tensor(name: str, count: int, size: tuple[int, int] = SHAPE) -> Tensor:
        return coded(name, (*size, count), BOOK)

    height, width, n = op.shape(port.shape((*SHAPE, channels)))
    source, some = tensor("input", channels), tensor("some", n, (height, width))
    pooled = tensor("pooled", n, (height, width))
    steps = exact(BOOK) if encoder is None else encoder
    pool = MaxPool((3, 1), (1, 1), (1, 1, 0, 0))
    layers = [
        layer_of(
            "copy", Select.every(channels), "input", tensor("all", channels), unit(channels),
            encoder=exact(BOOK),
        ),
        Layer("select", op, (port,), some, Post(unit(n) if tail is None else tail, None, steps)),
        layer_of("pool", pool, "some", pooled),
        layer_of("last", Select.every(n), "pooled", wide("y", pooled.shape), unit(n)),
    ]  # fmt: skip
    return assemble(source, layers, (n, height, width))


def tiles(network: IntegerNetwork, config: ArrayConfig = CONFIG) -> int:
    """Return the tiles of the selection; compare the network's values."""
    program = compile(network, config)
    codes = network.encode(images_of(network, 2))
    for image, y in zip(codes, network.run(codes), strict=True):
        np.testing.assert_array_equal(execute(program, image), y)
    assert (program.layers[1].cycles == 0) == (program.layers[1].tiles == 0)
    return program.layers[1].tiles


@pytest.mark.parametrize(
    ("op", "port"),
    [
        (Select.of(range(4, 9)), Port("all")),
        (Select.of(range(4)), Port("all")),
        (Select.of(range(1, 5)), Port("all", 3)),
        (Select.every(11), Port("all")),
    ],
    ids=str,
)
def test_channels_from_the_beginning_of_a_word_on_move_nothing(op: Select, port: Port) -> None:
    assert tiles(selection(op, port, 11)) == 0
    # Digits of a code lie in planes; a word holds other digits of the same channels.
    assert tiles(selection(op, port, 11), ArrayConfig(4, 4, code_bits=3, acc_depth=8)) == 0


@pytest.mark.parametrize(
    "op",
    [
        Select.of(range(3, 7)),
        Select.of([4, 6, 5, 7]),
        Select.of([4, 5, -1, 7]),
        Select((4, 5, 6, 7), padding=(-1, 0, 0, 0)),
        Select((4, 5, 6, 7), stride=(1, 2)),
        Select((4, 5, 6, 7), padding=(0, 0, 1, 0)),
    ],
    ids=str,
)
def test_all_others_are_copied(op: Select) -> None:
    assert tiles(selection(op, Port("all"), 11)) > 0


def test_other_codes_are_copied() -> None:
    op, port = Select.of(range(4, 8)), Port("all")
    one = unit(4)
    twice = Requantize(one.mult * np.array([1, 1, 2, 1], np.int32), one.bias, one.shift)
    assert tiles(selection(op, port, 11, twice)) > 0
    moved = Encoder(exact(BOOK).thresholds + np.int16(1), exact(BOOK).codes)
    assert tiles(selection(op, port, 11, encoder=moved)) > 0
