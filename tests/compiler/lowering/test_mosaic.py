"""Mosaics: programs copy pieces exactly, from any steps to any steps."""

import numpy as np
import pytest
from hypothesis import given, reject, settings

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import make_codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Mosaic, Piece, Select
from nupes.quantizer.frontend.pieces import raster
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.test_program import ARRAYS, execute
from tests.images import images_of
from tests.model.tiny import requantize
from tests.networks import networks

BOOK = make_codebook("uniform", 4, False)


def network_of(op: Mosaic, shape: tuple[int, int, int]) -> IntegerNetwork:
    """Return a network that hands on a mosaic of its input."""
    source, made = coded("input", shape, BOOK), coded("made", op.size, BOOK)
    channels = op.size[2]
    layers = [
        layer_of("mosaic", op, ("input",), made),
        layer_of(
            "out", Select.every(channels), ("made",), wide("y", op.size), requantize(channels)
        ),
    ]
    return assemble(source, layers, (channels, *op.size[:2]))


@settings(max_examples=60)
@given(networks(5, also=("mosaic", "concat"), ranges=True), ARRAYS)
def test_programs(network: IntegerNetwork, config: ArrayConfig) -> None:
    codes = network.encode(images_of(network, 1))
    try:
        program = compile(network, config)
    except UnsupportedError:  # another operator, of channels that begin within a word
        reject()
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


def test_a_grid_is_one_run_of_tiles_for_each_block() -> None:
    pieces = [
        Piece(0, (4, 3, 4), (y, x, 0), (2, 2, 1), (0, 0, 0), (1, 1, 1))
        for y in range(2)
        for x in range(2)
    ]
    program = compile(network_of(Mosaic((8, 6, 4), tuple(pieces)), (4, 3, 4)), ArrayConfig(4, 4))
    assert program.schedule.tiles[0] == 4


def test_pixels_that_stay_in_order_are_not_moved() -> None:
    # A map that a layer makes, as a sequence; a map of other rows in that; a part of both.
    source, shape = coded("input", (4, 3, 5), BOOK), (4, 3, 5)
    sequence, upright = raster(shape), raster((12, 1, 5))
    wide_map = Mosaic((2, 6, 5), tuple(
        Piece(0, (1, 1, 5), (y, x, 0), (1, 1, 1), (6 * y + x, 0, 0), (1, 1, 1))
        for y in range(2) for x in range(6)
    ))  # fmt: skip
    every, encoder = Select.every(5), Encoder(BOOK.levels[1:], np.arange(16, dtype=np.uint8)[::-1])
    layers = [
        layer_of(
            "made", every, ("input",), coded("made", shape, BOOK), requantize(5), encoder=encoder
        ),
        layer_of("tokens", sequence, ("made",), coded("tokens", sequence.size, BOOK)),
        layer_of("again", upright, ("tokens",), coded("again", upright.size, BOOK)),
        layer_of("wide", wide_map, ("again",), coded("wide", wide_map.size, BOOK)),
        layer_of("out", every, ("wide",), wide("y", wide_map.size), requantize(5)),
    ]
    network = assemble(source, layers, (5, 2, 6))
    program = compile(network, ArrayConfig(4, 4))
    assert program.schedule.tiles[1:4] == (0, 0, 0)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


def piece(source: int, row: int, height: int, at: int = 0) -> Piece:
    """Return rows of an input of (3, 4, 5) from one on, at rows of the result."""
    return Piece(source, (height, 4, 5), (row, 0, 0), (1, 1, 1), (at, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("pieces", "inputs", "copied"),
    [
        ([piece(0, 0, 3), piece(0, 3, 3)], ("made",), True),  # the same rows once more
        ([piece(0, 0, 3), piece(0, 3, 2, 1)], ("made",), True),
        ([piece(0, 0, 1, 2), piece(0, 1, 3)], ("made",), True),
        ([piece(0, 0, 3), piece(1, 3, 3)], ("made", "made"), True),
        ([piece(0, 0, 3), piece(1, 3, 3)], ("made", "other"), False),
        ([piece(1, 0, 3), piece(0, 3, 3), piece(2, 6, 3)], ("made", "other", "input"), True),
        ([piece(0, 0, 3), piece(1, 3, 2)], ("made", "other"), True),  # some rows of the second
    ],
)
def test_rows_that_are_written_where_they_belong(
    pieces: list[Piece], inputs: tuple[str, ...], copied: bool
) -> None:
    source, every = coded("input", (3, 4, 5), BOOK), Select.every(5)
    encoder = Encoder(BOOK.levels[1:], np.arange(16, dtype=np.uint8)[::-1])
    layers = [
        layer_of(
            name, every, ("input",), coded(name, (3, 4, 5), BOOK), requantize(5), encoder=encoder
        )
        for name in ("made", "other")
    ]
    op = Mosaic((sum(item.count[0] for item in pieces), 4, 5), tuple(pieces))
    layers += [
        layer_of("rows", op, inputs, coded("rows", op.size, BOOK)),
        layer_of("out", every, ("rows",), wide("y", op.size), requantize(5)),
    ]
    network = assemble(source, layers, (5, *op.size[:2]))
    program = compile(network, ArrayConfig(4, 4))
    assert (program.schedule.tiles[2] > 0) == copied
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


def test_a_map_beyond_the_coordinates_is_refused() -> None:
    op = Mosaic((1, 1, 1), (Piece(0, (1, 1, 1), (0, 0, 0), (1, 1, 1), (0, 8192, 0), (1, 1, 1)),))
    with pytest.raises(UnsupportedError, match=r"'mosaic': input columns must be at most 8191 on"):
        compile(network_of(op, (1, 8193, 1)), ArrayConfig(4, 4, act_depth=1 << 14))
