"""Products of two stored tensors: every kind of broadcast, exact; refusals by name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.program import compile
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.layer import Encoder, Layer, Post, Residual
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Operator, Product, Select
from nupes.model.tensor import Port, Shape
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.test_program import ARRAYS, execute
from tests.images import images_of
from tests.model.tiny import requantize
from tests.networks import JOINS, many, networks

BOOK = make_codebook("uniform", 8, True)
PRODUCTS = ARRAYS.map(lambda config: replace(config, products=True))
CONFIG = ArrayConfig(4, 4, acc_depth=8, products=True)


def stored(name: str, op: Operator, shape: Shape, book: Codebook) -> Layer:
    """Return a layer that reads the input and stores codes."""
    size = op.shape(shape)
    steps = np.linspace(-30000, 30000, len(book) - 1).astype(np.int16)
    encoder = Encoder(steps, np.arange(len(book), dtype=np.uint8))
    output = coded(name, size, book)
    return layer_of(name, op, "input", output, requantize(size[2]), encoder=encoder)


def gated(
    factor: Operator,
    whole: Shape,
    ports: tuple[Port, Port] | None = None,
    book: Codebook = BOOK,
) -> IntegerNetwork:
    """Return the input times a factor made of it."""
    gate = stored("gate", factor, whole, book)
    ports = (Port("gate"), Port("input")) if ports is None else ports
    shape = (*whole[:2], whole[2] if ports[1].channels is None else ports[1].channels)
    y = wide("y", shape)
    last = Layer("product", Product(), ports, y, Post(requantize(shape[2])))
    return assemble(coded("input", whole, book), [gate, last], (shape[2], *shape[:2]))


def check(network: IntegerNetwork, config: ArrayConfig) -> None:
    """Compare a network's values."""
    codes = network.encode(images_of(network, 1))
    program = compile(network, config)
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


FACTORS = {
    "all": Select.every(9),
    "pixels": AveragePool((5, 3), (1, 1)),
    "rows": AveragePool((1, 3), (1, 1)),
    "columns": AveragePool((5, 1), (1, 1)),
    "channels": Select.every(1),
}


@pytest.mark.parametrize("kind", FACTORS)
@settings(max_examples=8)
@given(PRODUCTS)
def test_broadcasts(kind: str, config: ArrayConfig) -> None:
    check(gated(FACTORS[kind], (5, 3, 9)), config)


def test_ranges_of_channels() -> None:
    ports = Port("gate", 3, 5), Port("input", 4, 5)
    check(gated(FACTORS["pixels"], (5, 3, 9), ports), CONFIG)
    check(gated(FACTORS["pixels"], (5, 3, 9), (ports[0], Port("input", 3, 5))), CONFIG)


def test_an_array_without_products_refuses() -> None:
    with pytest.raises(UnsupportedError) as error:
        compile(gated(Select.every(9), (5, 3, 9)), ArrayConfig(4, 4))
    assert str(error.value) == (
        "layer 'product': a product of two tensors needs an array with products=True"
    )


def test_a_product_with_a_skip_tensor_is_refused() -> None:
    network = gated(Select.every(9), (5, 3, 9))
    last = network.layers[-1]
    assert last.post is not None
    post = replace(last.post, residual=Residual(Port("gate"), 1, 1))
    network = replace(network, layers=(*network.layers[:-1], replace(last, post=post)))
    with pytest.raises(UnsupportedError) as error:
        compile(network, CONFIG)
    assert str(error.value) == (
        "layer 'product': a product and a skip tensor must be two layers: both are read through "
        "one port"
    )


def test_a_narrow_accumulator_is_refused_with_the_bits_it_needs() -> None:
    network = gated(Select.every(9), (5, 3, 9), book=make_codebook("power", 8, False, 255, 0.5))
    with pytest.raises(CapacityError, match=r"accumulator could reach .*, beyond acc_bits 16"):
        compile(network, replace(CONFIG, acc_bits=16))
    check(network, replace(CONFIG, acc_bits=18))


@pytest.mark.parametrize("mac", ["uniform", "square", "pair"])
def test_cells_that_multiply_digits(mac: str) -> None:
    check(gated(FACTORS["pixels"], (5, 3, 9)), replace(CONFIG, mac=mac))


@many(20)
@given(networks(most_layers=6, also=JOINS), PRODUCTS, st.sampled_from([1, 20]))
def test_random_networks(network: IntegerNetwork, config: ArrayConfig, latency: int) -> None:
    program = compile(network, config, latency)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])
    assert sum(layer.cycles for layer in program.layers) == program.cycles
