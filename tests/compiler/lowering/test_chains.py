"""Chains: every tap once, in steps that meet it, and never more cycles than without."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nupes.arch.chains import band, direct
from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Tile
from nupes.compiler.lowering.chains import Chain, Grid, best_chains, chain_matrix, chains_of
from nupes.compiler.lowering.matrix import conv_matrix
from nupes.compiler.program import Program, compile
from nupes.model.codebook import make_codebook
from nupes.model.errors import CapacityError
from nupes.model.layer import Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from tests.assemble import assemble, coded, layer_of, wide
from tests.compiler.lowering.test_matrix import decode, operands_for
from tests.depthwise import Unchained, depthwise_networks
from tests.networks import many

CODES = make_codebook("uniform", 4, False)
WEIGHTS = make_codebook("uniform", 4, True)


def line(columns: int, stride: int = 1, dilation: int = 1, width: int = 9) -> Grid:
    """Return a grid of one row of pixels and of a kernel of one row."""
    return Grid(width, width, stride, (tuple(range(columns)),), dilation)


@pytest.mark.parametrize(
    ("grid", "found"),
    [
        (line(1), [((0,), (0,))]),
        (line(3), [((0, 1, 2), (0, 1, 2))]),
        (line(5), [((0, 1, 2), (0, 1, 2)), ((3, 4), (0, 1))]),
        (line(3, stride=2), [((0, 2), (0, 1)), ((1,), (0,))]),
        (line(3, dilation=2), [((0, 1), (0, 2)), ((2,), (0,))]),
        (line(3, stride=2, dilation=2), [((0, 1, 2), (0, 1, 2))]),
        (line(3, stride=3), [((0,), (0,)), ((1,), (0,)), ((2,), (0,))]),
    ],
)
def test_taps_that_lie_a_step_apart_are_a_chain(
    grid: Grid, found: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    assert list(chains_of(grid)) == [Chain(*item) for item in found]


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_every_tap_is_in_one_chain(columns: int, stride: int, dilation: int, rows: int) -> None:
    taps = tuple(tuple(range(row * columns, (row + 1) * columns)) for row in range(rows))
    chains = list(chains_of(Grid(9, 18, stride, taps, dilation)))
    assert sorted(tap for chain in chains for tap in chain.taps) == list(range(rows * columns))
    for chain in chains:
        places = [tap % columns * dilation for tap in chain.taps]
        assert len({tap // columns for tap in chain.taps}) == 1
        assert [place - places[0] for place in places] == [step * stride for step in chain.steps]


@given(
    st.sampled_from([(3, 3), (4, 4), (4, 8), (10, 5), (16, 16)]),
    st.integers(1, 40),
    st.lists(st.sampled_from([(0, 1, 2), (0, 1), (0, 2)]), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_payloads_are_the_weights_where_steps_are_met(
    size: tuple[int, int], channels: int, chained: list[tuple[int, ...]], seed: int
) -> None:
    config, rng = ArrayConfig(*size), np.random.default_rng(seed)
    count = sum(map(len, chained))
    codes = rng.integers(0, 15, (channels, 1, 1, count)).astype(np.uint8)
    op = Conv(codes, WEIGHTS, np.ones(channels), groups=channels)
    numbers = iter(range(count))
    chains = [Chain(tuple(next(numbers) for _ in steps), steps) for steps in chained]
    matrix = chain_matrix(conv_matrix(op, operands_for(op, config, CODES)), chains, config)
    expected = WEIGHTS.levels[codes[:, 0, 0]]
    seen = np.zeros((channels, len(chains), 3), np.int64)
    for column in range(-(-channels // config.cols)):
        for tile in matrix.column_tile(column, 1, config):
            levels = decode(matrix, tile, column, config)
            lanes = range(tile.slice_index * config.rows % config.lanes, config.lanes)
            for lane in lanes[: tile.rows]:
                # Whatever a column that has results multiplies is a weight of this tile.
                if column * config.cols + direct(lane, config)[1] < channels:
                    assert max(band(lane, config)) < tile.rows
            for col in range(min(config.cols, channels - column * config.cols)):
                channel = column * config.cols + col
                lane = channel % config.lanes
                if lane not in lanes[: config.rows]:
                    assert not levels[:, col].any()
                    continue
                assert direct(lane, config)[1] == col
                rows = list(band(lane, config))
                seen[channel, tile.tap] += levels[rows, col]
                levels[rows, col] = 0
                assert not levels[:, col].any()
    for index, chain in enumerate(chains):
        ages = [chain.warm_up - step for step in chain.steps]
        np.testing.assert_array_equal(seen[:, index, ages], expected[:, list(chain.taps)])
        others = [age for age in range(3) if age not in ages]
        assert not seen[:, index, others].any()


def test_codebooks_without_zero_have_whole_chains_alone() -> None:
    config = ArrayConfig(4, 4)
    op = Conv(np.zeros((4, 1, 1, 5), np.uint8), WEIGHTS, np.ones(4), groups=4)
    matrix = conv_matrix(op, operands_for(op, config, CODES))
    chains, _ = best_chains(line(5), matrix, config)
    assert [chain.taps for chain in chains] == [(0, 1, 2), (3, 4)]
    object.__setattr__(matrix, "zero", (-1,))
    chains, _ = best_chains(line(5), matrix, config)
    assert [chain.taps for chain in chains] == [(0, 1, 2)]


def depthwise(height: int, width: int, kernel: int, channels: int) -> IntegerNetwork:
    """Return one depthwise layer of one plane, with padding."""
    side = kernel // 2
    codes = np.ones((channels, 1, kernel, kernel), np.uint8)
    op = Conv(codes, WEIGHTS, np.ones(channels), padding=(side, side, side, side), groups=channels)
    one = np.ones(channels, np.int32)
    tail = Requantize(one, 0 * one.astype(np.int64), one)
    shape = height, width, channels
    layer = layer_of("only", op, "input", wide("y", shape), tail)
    return assemble(coded("input", shape, CODES), [layer], (channels, height, width))


def tiles(program: Program) -> list[Tile]:
    """Return the tiles of a program."""
    return [item for item in program.schedule.instructions if isinstance(item, Tile)]


def test_a_layer_takes_a_step_more_for_each_row_and_tap_less() -> None:
    program = compile(depthwise(6, 9, 3, 16), ArrayConfig(16, 16))
    assert [tile.streamed for tile in tiles(program)] == [6 * (9 + 2)] * 3
    assert program.layers[0].tile_bound == 3 * 6 * 11


def test_chains_go_down_narrow_maps() -> None:
    program = compile(depthwise(25, 5, 3, 16), ArrayConfig(16, 16))
    assert [tile.streamed for tile in tiles(program)] == [5 * (25 + 2)] * 3
    # A map of several blocks would wait for all of its input.
    program = compile(depthwise(25, 5, 3, 16), ArrayConfig(16, 16, acc_depth=32))
    assert sum(tile.streamed for tile in tiles(program)) > 3 * 25 * (5 + 2)


def test_chains_of_a_column_of_taps_are_a_run() -> None:
    program = compile(depthwise(2, 3, 3, 48), ArrayConfig(16, 16))
    runs = [tile.run for tile in tiles(program) if tile.run is not None]
    assert (2, 3, 1) in [(run.more, run.step, run.x) for run in runs]


ARRAYS = [
    ArrayConfig(4, 4, acc_depth=16),
    ArrayConfig(4, 8, code_bits=2, acc_depth=16),
    ArrayConfig(16, 16),
    ArrayConfig(10, 5, code_bits=3, acc_depth=32),
    ArrayConfig(16, 16, acc_depth=8),
]


@many(30)
@given(st.data(), st.sampled_from(ARRAYS))
def test_chains_are_never_slower(data: st.DataObject, array: ArrayConfig) -> None:
    network = data.draw(depthwise_networks(array))
    try:
        plain = compile(network, Unchained(**asdict(array)))
    except CapacityError:
        assume(False)
        return
    assert compile(network, array).cycles <= plain.cycles
