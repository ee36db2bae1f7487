"""Sums of products: any selections and broadcasts, codebooks that differ between pairs; what they
cost; refusals by name."""

from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.layer import Layer, Post, Residual
from nupes.model.network import Constant, IntegerNetwork, Output
from nupes.model.operators import SumOfProducts
from nupes.model.tensor import Port, Shape
from tests.assemble import coded, given, wide
from tests.codebooks import activation_codebooks
from tests.compiler.lowering.test_product import CONFIG, PRODUCTS, check
from tests.model.tiny import requantize

BOOKS = make_codebook("uniform", 8, True), make_codebook("power", 4, True, 127, 0.5)


def rotated(
    shape: Shape,
    channels: tuple[tuple[int, ...], ...],
    books: tuple[Codebook, ...] = BOOKS,
    factor: Port | None = None,
) -> IntegerNetwork:
    """Return the sum of the products of the input, or of what a port reads, and tables."""
    rng, n = np.random.default_rng(0), len(channels[0])
    tables, ports = [], []
    for index, book in enumerate(books):
        table = coded(f"table {index}", (*shape[:2], n), book)
        tables.append(Constant(table, rng.integers(0, len(book), table.shape).astype(np.uint8)))
        ports += [factor or Port("input"), Port(table.name)]
    y = wide("y", (*shape[:2], n))
    layer = Layer("sum", SumOfProducts(channels), tuple(ports), y, Post(requantize(n)))
    source = given(coded("input", shape, BOOKS[0]))
    return IntegerNetwork(
        (source,), (layer,), (Output("y", (n, *shape[:2])),), constants=tuple(tables)
    )


def turned(channels: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels of a rotation of halves."""
    every = np.arange(channels)
    return tuple(every.tolist()), tuple(np.roll(every, channels // 2).tolist())


@settings(max_examples=10)
@hypothesis.given(PRODUCTS, st.integers(1, 6), st.integers(1, 3), st.integers(1, 10), st.data())
def test_rotations_on_any_array(
    config: ArrayConfig, height: int, width: int, channels: int, data: st.DataObject
) -> None:
    books = data.draw(activation_codebooks()), data.draw(activation_codebooks())
    check(rotated((height, width, channels), turned(channels), books), config)


def test_factors_may_begin_anywhere_and_have_other_channels() -> None:
    channels = (4, 4, 0, 1, 3, 2), (0, 1, 2, 3, 4, 0)
    check(rotated((5, 2, 9), channels, factor=Port("input", 3, 5)), CONFIG)


def test_wholes_that_begin_within_a_word_are_copied() -> None:
    network = rotated((5, 2, 9), ((0, 1, 2), (2, 1, 0)))
    (layer,) = network.layers
    ports = (Port("input", 2, 3), Port("input", 5, 3), layer.inputs[2], Port("input", 4, 3))
    network = replace(network, layers=(replace(layer, inputs=ports),))
    program = compile(network, CONFIG)
    assert [item.name for item in program.layers] == ["input[5:8]", "sum"]
    check(network, CONFIG)


def tiles_of(network: IntegerNetwork, mac: str) -> int:
    """Return how many tiles a network of one layer takes."""
    return compile(network, replace(CONFIG, mac=mac)).layers[-1].tiles


def test_passes_are_digits_of_words_that_are_selected() -> None:
    # The input has two digits, one operand on these cells; each word of four results takes one word
    # of each factor.
    for mac, digits in (("decode", 1), ("uniform", 2)):
        assert tiles_of(rotated((3, 1, 8), turned(8)), mac) == 2 * 2 * digits
        assert tiles_of(rotated((3, 1, 8), ((0, 1, 4, 5),) * 2), mac) == 2 * 2 * digits
        assert tiles_of(rotated((3, 1, 8), ((5, 5, 7, 6),) * 2), mac) == 2 * digits


@pytest.mark.parametrize("mac", ["uniform", "square", "pair"])
def test_cells_that_multiply_digits(mac: str) -> None:
    check(rotated((5, 3, 6), turned(6)), replace(CONFIG, mac=mac))


def test_an_array_without_products_refuses() -> None:
    with pytest.raises(UnsupportedError) as error:
        compile(rotated((5, 3, 6), turned(6)), ArrayConfig(4, 4))
    assert str(error.value) == (
        "layer 'sum': a product of two tensors needs an array with products=True"
    )


def test_a_sum_with_a_skip_tensor_is_refused() -> None:
    network = rotated((5, 3, 6), turned(6))
    (layer,) = network.layers
    assert layer.post is not None
    post = replace(layer.post, residual=Residual(Port("input"), 1, 1))
    with pytest.raises(UnsupportedError, match="layer 'sum': a product and a skip tensor must be"):
        compile(replace(network, layers=(replace(layer, post=post),)), CONFIG)


def test_a_narrow_accumulator_is_refused_for_the_sum_of_all_pairs() -> None:
    first, second = turned(6)
    one = rotated((5, 3, 6), (first,), (BOOKS[0],))
    three = rotated((5, 3, 6), (first, second, first), (BOOKS[0],) * 3)
    with pytest.raises(CapacityError, match=r"'sum': accumulator could reach .*; it needs 17 bits"):
        compile(three, replace(CONFIG, acc_bits=16))
    check(one, replace(CONFIG, acc_bits=16))
    check(three, replace(CONFIG, acc_bits=17))
