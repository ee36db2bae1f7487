"""Weight tiles: decoded payloads are the weights, and the bound is one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.columns import Tiling, all_columns, patch_stream
from nupes.compiler.lowering.matrix import (
    Matrix,
    WeightTile,
    conv_matrix,
    identity_matrix,
    partial_sum_bound,
    patch_matrix,
)
from nupes.compiler.lowering.operands import LayerOperands, layer_operands
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.place.layout import PatchLayout
from nupes.model.codebook import Codebook, make_codebook
from nupes.model.operators import Conv, Operator, Select
from nupes.model.planes import split_planes
from tests.assemble import coded, layer_of, wide
from tests.codebooks import activation_codebooks, held_codebooks, weight_codebooks
from tests.compiler.place.test_packing import integers

SIZES = st.sampled_from([(2, 2), (4, 4), (2, 8), (8, 4), (16, 16)])
ARRAYS = st.builds(lambda s, b: ArrayConfig(*s, code_bits=b), SIZES, st.integers(2, 8))


MACS = ("decode", "uniform", "square", "pair")
CELLS = st.builds(
    lambda b, mac: ArrayConfig(4, 4, code_bits=b, mac=mac), st.integers(2, 5), st.sampled_from(MACS)
)


INPUT = make_codebook("uniform", 2, False)


def operands_for(op: Operator, config: ArrayConfig, book: Codebook = INPUT) -> LayerOperands:
    """Return the operands of an operator and of an input with codebook ``book``."""
    source = coded("input", (1, 1, 1), book)
    layer = layer_of("only", op, "input", wide("y", (1, 1, 1)))
    return layer_operands(layer, source, split_planes(book, config.code_bits), config)


@st.composite
def convolutions(draw: st.DrawFn, books: st.SearchStrategy[Codebook] | None = None) -> Conv:
    """Draw a convolution with any number of groups."""
    book, groups = draw(weight_codebooks() if books is None else books), draw(st.integers(1, 5))
    per_group, multiplier = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    kernel = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = groups * multiplier
    codes = rng.integers(0, len(book), (n, per_group, *kernel)).astype(np.uint8)
    return Conv(codes, book, np.ones(n), groups=groups)


def decode(matrix: Matrix, tile: WeightTile, column: int, config: ArrayConfig) -> np.ndarray:
    """Return the levels (rows, cols) that the array gets from a tile's payload."""
    words = integers(matrix.payload(tile, column, config)) if tile.payload else []
    assert len(words) == tile.payload
    table = matrix.tables[tile.weight_plane]
    levels = np.zeros((config.rows, config.cols), np.int64)
    each = 1 + tile.masked + tile.joined
    for row in range(tile.rows):
        *before, word = words[row * each : (row + 1) * each]
        mask = before[0] if tile.masked else -1
        lower = before[-1] if tile.joined else 0
        for lane in range(config.cols):
            upper, below = (
                item >> (config.code_bits * lane) & ((1 << config.code_bits) - 1)
                for item in (word, lower)
            )
            digit = upper << config.code_bits | below if tile.joined else upper
            levels[row, lane] = table[digit] if mask >> lane & 1 else 0
    return levels


def weights_of(matrix: Matrix, k: int, planes: int, config: ArrayConfig) -> np.ndarray:
    """Return the sum over weight planes of all tiles, (planes, taps, k, n), for each input plane.

    Lanes of channels that do not exist are not looked at: nobody reads their results.
    """
    n = matrix.channels
    out = np.zeros((planes, matrix.taps, k + config.rows, n + config.cols), np.int64)
    for column in range(-(-n // config.cols)):
        for tile in matrix.column_tile(column, planes, config):
            rows = slice(tile.slice_index * config.rows, (tile.slice_index + 1) * config.rows)
            cols = slice(column * config.cols, (column + 1) * config.cols)
            levels = decode(matrix, tile, column, config)
            out[tile.activation_plane, tile.tap, rows, cols] += levels
    assert not out[:, :, k:].any()
    return out[:, :, :k, :n]


def test_tiles_that_differ_in_little_follow_one_another() -> None:
    """All but those of the first column tile, whose channels come as they are written."""
    config, weights = ArrayConfig(4, 4), make_codebook("uniform", 4, True)
    op = Conv(np.zeros((8, 9, 1, 2), np.uint8), weights, np.ones(8))
    matrix = conv_matrix(op, operands_for(op, config))
    first, other = (
        [(tile.slice_index, tile.tap, tile.activation_plane) for tile in tiles]
        for tiles in (matrix.column_tile(column, 2, config) for column in (0, 1))
    )
    assert first == [
        (word, tap, plane) for word in range(3) for tap in range(2) for plane in (0, 1)
    ]
    full = [(word, tap, plane) for plane in (0, 1) for tap in range(2) for word in (0, 1)]
    assert other == [*full, *((2, tap, plane) for plane in (0, 1) for tap in range(2))]


@given(st.data(), ARRAYS | CELLS, st.integers(1, 3))
def test_tiles_of_a_convolution_are_its_weights(
    data: st.DataObject, config: ArrayConfig, planes: int
) -> None:
    op = data.draw(convolutions(held_codebooks(config, True)))
    n, per_group, kh, kw = op.codes.shape
    k = per_group * op.groups
    want = np.zeros((kh * kw, k, n), np.int64)
    for channel in range(n):
        first = channel // (n // op.groups) * per_group
        dense = op.levels[channel].transpose(1, 2, 0).reshape(kh * kw, per_group)
        want[:, first : first + per_group, channel] = dense
    got = weights_of(conv_matrix(op, operands_for(op, config)), k, planes, config)
    for plane in range(planes):
        np.testing.assert_array_equal(got[plane], want)


@given(convolutions(), ARRAYS)
def test_tiles_of_patches_are_the_weights_tap_by_tap(op: Conv, config: ArrayConfig) -> None:
    dense = Conv(op.codes, op.codebook, op.scale)
    n, channels, kh, kw = op.codes.shape
    k = kh * kw * channels
    want = op.levels.transpose(2, 3, 1, 0).reshape(k, n)
    got = weights_of(patch_matrix(dense, operands_for(dense, config)), k, 1, config)
    np.testing.assert_array_equal(got[0, 0], want)


@given(st.integers(1, 20), st.integers(-20, 20), st.integers(1, 20), ARRAYS | CELLS)
def test_identity_tiles_copy(channels: int, offset: int, outputs: int, config: ArrayConfig) -> None:
    operands = operands_for(Select.every(channels), config)
    matrix = identity_matrix(channels, outputs, offset, operands)
    got = weights_of(matrix, channels, 2, config)
    np.testing.assert_array_equal(got[0, 0], np.eye(channels, outputs, k=offset))
    np.testing.assert_array_equal(got[1], got[0])


@given(convolutions(), st.integers(1, 9), ARRAYS)
def test_lanes_before_a_range_of_channels_have_no_operands(
    op: Conv, lead: int, config: ArrayConfig
) -> None:
    channels = op.codes.shape[1] * op.groups
    operands = operands_for(op, config)
    whole = weights_of(conv_matrix(op, operands), channels, 1, config)
    moved = conv_matrix(op, operands, lead)
    got = weights_of(moved, lead + channels, 1, config)
    np.testing.assert_array_equal(got[:, :, lead:], whole)
    assert not got[:, :, :lead].any()


def test_tiles_without_an_operand_are_left_out() -> None:
    config = ArrayConfig(4, 4)
    matrix = identity_matrix(8, 8, 0, operands_for(Select.every(8), config))
    tiles = [matrix.column_tile(column, 1, config) for column in (0, 1)]
    assert [[tile.slice_index for tile in column] for column in tiles] == [[0], [1]]
    # A column tile without any source still has one pass, with no rows: it clears the sums.
    empty = identity_matrix(8, 4, 4, operands_for(Select.every(8), config))
    assert empty.column_tile(0, 2, config) == []
    layout = PatchLayout(0, 1, 2, 1, 4, 1)
    tiling = Tiling(empty, operands_for(Select.every(8), config), patch_stream(layout))
    (column,) = all_columns(tiling, config)
    (item,) = column.passes
    assert isinstance(item.stationary, Payload)
    assert item.stationary.size == 0


@given(convolutions(), activation_codebooks(), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_no_partial_sum_exceeds_the_bound(op: Conv, book, code_bits: int, seed: int) -> None:
    config = ArrayConfig(4, 4, code_bits=code_bits)
    layer = operands_for(op, config, book)
    matrix, passes = conv_matrix(op, layer), layer.activations.levels
    bound = partial_sum_bound(matrix, passes)
    rng = np.random.default_rng(seed)
    present = True if matrix.present is None else matrix.present
    products = []
    for table, digits in zip(matrix.tables, matrix.digits, strict=True):
        weights = table[digits] * present
        for levels in passes:
            drawn = rng.choice(np.append(levels, 0), (*weights.shape[:2], 1)).astype(np.int64)
            products.append((weights * drawn).reshape(-1, op.codes.shape[0]))
    order = rng.permutation(np.concatenate(products))
    assert np.abs(np.cumsum(order, axis=0)).max() <= bound


def test_groups_take_no_more_memory_than_their_weights() -> None:
    op = Conv(np.zeros((64, 1, 3, 3), np.uint8), INPUT, np.ones(64), groups=64)
    matrix = conv_matrix(op, operands_for(op, ArrayConfig(4, 4)))
    assert matrix.digits.size == op.codes.size
    assert [tile.slice_index for tile in matrix.column_tile(3, 1, ArrayConfig(4, 4))] == [3] * 9
