"""Schedules: refusals name the layer and what would do, and the suggestions hold."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.instructions import Load, Pool, Tile
from nupes.compiler.emit.schedules import schedule
from nupes.compiler.place.layout import blocks
from nupes.compiler.program import compile
from nupes.model.codebook import Codebook, make_codebook, table_codebook
from nupes.model.errors import CapacityError, UnsupportedError
from nupes.model.network import IntegerNetwork
from nupes.model.operators import AveragePool, Conv, MaxPool, Operator, Select
from tests.assemble import assemble, coded, layer_of, wide
from tests.codebooks import activation_codebooks, weight_codebooks
from tests.compiler.test_program import ARRAYS, execute
from tests.images import images_of
from tests.model.tiny import requantize, tiny_network
from tests.networks import networks

UNSIGNED = make_codebook("uniform", 4, False)


def one_layer(
    op: Operator, shape: tuple[int, int, int], book: Codebook = UNSIGNED
) -> IntegerNetwork:
    """Return a network of one layer, named ``only``."""
    height, width, channels = op.shape(shape)
    output = wide("y", (height, width, channels))
    layer = layer_of("only", op, "input", output, requantize(channels))
    return assemble(coded("input", shape, book), [layer], (channels, height, width))


def conv(shape: tuple[int, ...], **options) -> Conv:
    """Return a convolution of the most negative 8-bit weights."""
    book = table_codebook([-128], 2)
    return Conv(np.zeros(shape, np.uint8), book, np.ones(shape[0]), **options)


def refusal(network: IntegerNetwork, config: ArrayConfig) -> str | None:
    """Return why a network does not fit, or None if it does."""
    try:
        compile(network, config)
    except CapacityError as error:
        return str(error)
    return None


@given(networks(), ARRAYS, st.data())
def test_a_network_too_large_is_told_what_fits(
    network: IntegerNetwork, config: ArrayConfig, data: st.DataObject
) -> None:
    words = schedule(network, config).act_words
    depth = data.draw(st.integers(4, max(words, 4)))
    text = refusal(network, replace(config, act_depth=depth))
    if text is None:
        return
    found = re.search(
        r"^activation memory must hold (\d+) words, but act_depth is (\d+): tensor '(.+)' "
        r"does not fit by (\d+) words; the smallest that fits is .* (ArrayConfig\(.*\)); or let "
        r"spills=True keep what does not fit in the program's memory$",
        text,
    )
    assert found, text
    needed = int(found[1])
    assert int(found[2]) == depth
    assert found[3] in network.tensors
    assert int(found[4]) == needed - depth
    assert eval(found[5]) == replace(config, act_depth=needed)
    assert refusal(network, replace(config, act_depth=needed)) is None
    assert refusal(network, replace(config, act_depth=needed - 1)) is not None


def test_a_narrow_accumulator_is_refused_with_the_bits_it_needs() -> None:
    network = one_layer(conv((1, 40, 1, 1)), (1, 1, 40))
    with pytest.raises(CapacityError) as error:
        compile(network, ArrayConfig(4, 4, acc_bits=17))
    assert str(error.value) == (
        "layer 'only': accumulator could reach 76800, beyond acc_bits 17; "
        "it needs 18 bits, or fewer weight bits"
    )
    codes = np.full((1, 1, 1, 40), 15, np.uint8)
    program = compile(network, ArrayConfig(4, 4, acc_bits=18))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


def test_sums_of_a_pool_are_bounded_too() -> None:
    network = one_layer(
        AveragePool((60, 60), (1, 1)), (60, 60, 1), make_codebook("uniform", 4, False, 255)
    )
    with pytest.raises(CapacityError, match="layer 'only': accumulator could reach 918000, "):
        compile(network, ArrayConfig(4, 4, acc_bits=16))
    compile(network, ArrayConfig(4, 4, acc_bits=21))


def test_levels_wider_than_the_decoders_are_refused() -> None:
    network = one_layer(conv((1, 2, 1, 1)), (1, 1, 2))
    with pytest.raises(CapacityError) as error:
        compile(network, ArrayConfig(4, 4, weight_level_bits=7))
    assert str(error.value) == (
        "layer 'only': levels -128..-128 must fit weight_level_bits 7; use weight_level_bits=8"
    )
    with pytest.raises(CapacityError) as error:
        compile(network, ArrayConfig(4, 4, activation_level_bits=4))
    assert str(error.value) == (
        "tensor 'input': levels 0..15 must fit activation_level_bits 4; use activation_level_bits=5"
    )


@given(weight_codebooks(), activation_codebooks(), st.integers(2, 8))
def test_the_suggested_level_bits_hold(weights: Codebook, book: Codebook, code_bits: int) -> None:
    codes = np.arange(len(weights), dtype=np.uint8)[:, None, None, None]
    op = Conv(codes, weights, np.ones(len(weights)))
    network = one_layer(op, (1, 1, 1), book)
    fields: dict[str, int] = {"weight_level_bits": 2, "activation_level_bits": 2}
    for _ in range(3):
        try:
            program = compile(network, replace(ArrayConfig(4, 4, code_bits=code_bits), **fields))
            break
        except CapacityError as error:
            name, bits = str(error).rsplit("use ")[1].split("=")
            assert int(bits) > fields[name]
            fields[name] = int(bits)
    else:
        pytest.fail("the suggested widths do not hold")
    codes = np.array([[[[0]]], [[[len(book) - 1]]]], np.uint8)
    want = network.run(codes)
    for image, y in zip(codes, want, strict=True):
        np.testing.assert_array_equal(execute(program, image), y)


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        (Select((0,), stride=(64, 1)), (65, 1, 1), "stride over rows must be at most 63"),
        (AveragePool((2, 1), (64, 1)), (66, 1, 1), "stride over rows must be at most 63"),
        (Select((0,), stride=(1, 64)), (1, 65, 1), "stride over columns must be at most 63"),
        (Select.every(1), (8192, 1, 1), "padded input rows must be at most 8191"),
        (AveragePool((1024, 1), (1, 1)), (1024, 1, 1), "kernel rows must be at most 1023"),
    ],
)
def test_walks_beyond_the_instruction_are_refused(
    op: Operator, shape: tuple[int, int, int], text: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"^layer 'only': {text} on the array, not "):
        compile(one_layer(op, shape), ArrayConfig(4, 4, act_depth=1 << 20))


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (AveragePool((70, 66), (70, 66)), (70, 66, 2)),
        (AveragePool((2, 66), (1, 66)), (3, 66, 1)),
        (AveragePool((66, 2), (66, 2)), (66, 5, 1)),
        (Select((0,), stride=(99, 2)), (3, 4, 1)),
    ],
)
def test_a_step_that_is_never_taken_is_no_limit(
    op: AveragePool | Select, shape: tuple[int, int, int]
) -> None:
    network, config = one_layer(op, shape), ArrayConfig(4, 4, acc_depth=4)
    codes = network.encode(images_of(network, 1))
    np.testing.assert_array_equal(
        execute(compile(network, config), codes[0]), network.run(codes)[0]
    )


def test_the_dilation_of_one_tap_is_no_limit() -> None:
    pool = MaxPool((1, 2), (1, 1), dilation=(99, 1))
    book = UNSIGNED
    layers = [
        layer_of("pool", pool, "input", coded("t", (3, 3, 2), book)),
        layer_of("last", Select.every(2), "t", wide("y", (3, 3, 2)), requantize(2)),
    ]
    network = assemble(coded("input", (3, 4, 2), book), layers, (2, 3, 3))
    codes = network.encode(images_of(network, 1))
    program = compile(network, ArrayConfig(4, 4))
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


def test_the_deepest_accumulator_fits_the_instruction() -> None:
    """A packed input of more pixels than one block holds."""
    network = one_layer(conv((1, 1, 3, 3), padding=(1, 1, 1, 1)), (70, 70, 1))
    config = ArrayConfig(16, 16, acc_depth=4096)
    codes = network.encode(images_of(network, 1))
    program = compile(network, config)
    np.testing.assert_array_equal(execute(program, codes[0]), network.run(codes)[0])


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_blocks_cover_all_pixels_once(pixels: int, depth: int) -> None:
    covered = [p for first, count in blocks(pixels, depth) for p in range(first, first + count)]
    assert covered == list(range(pixels))
    assert all(1 <= count <= depth for _, count in blocks(pixels, depth))


@given(networks(), ARRAYS)
def test_lags_refer_to_earlier_tiles(network: IntegerNetwork, config: ArrayConfig) -> None:
    tiles = 0
    for item in schedule(network, config).instructions:
        if isinstance(item, Load | Tile | Pool):
            assert 0 <= item.lag <= LAG_FREE
        if isinstance(item, Tile | Pool):
            assert item.lag == LAG_FREE or item.lag < max(tiles, 1)
            tiles += 1


def test_the_input_is_packed_where_that_pays_and_fits() -> None:
    network = one_layer(conv((4, 1, 3, 3)), (6, 6, 1))
    assert schedule(network, ArrayConfig(16, 16)).act_words == 16
    # 16 pixels of 3 words each would not fit; the map of 36 does.
    assert schedule(network, ArrayConfig(4, 4)).act_words == 48
    assert schedule(network, ArrayConfig(4, 4, act_depth=40)).act_words == 36


def test_tiny_network_compiles_everywhere() -> None:
    for size in ((2, 2), (4, 4), (64, 64), (2, 32)):
        assert compile(tiny_network(), ArrayConfig(*size)).cycles > 0
