"""Accesses of layers; that they are those of the hardware is a test of its own
(``tests/test_accesses.py``)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.costs import access_bits
from nupes.compiler.emit.descriptors import Descriptor, Results
from nupes.compiler.emit.instructions import Pool
from nupes.compiler.emit.streamed import TileSlots
from nupes.compiler.lowering.walks import Start, Walk
from nupes.compiler.program import Program, compile
from nupes.compiler.report.accesses import inside
from nupes.model.network import IntegerNetwork
from tests.networks import many, networks
from tests.small import ARRAY, small_network

SMALL = st.integers(0, 4)
WALKS = st.builds(
    Walk,
    step_x=st.just(1),
    width=st.integers(1, 6),
    height=st.integers(1, 6),
    stride_x=SMALL,
    stride_y=SMALL,
    out_width=st.integers(1, 5),
    kernel_w=st.integers(1, 3),
    kernel_h=st.integers(1, 3),
    dilation_x=SMALL,
    dilation_y=SMALL,
    planes=st.integers(0, 3),
)
PLACE = st.integers(-5, 6)


def words_inside(item: Pool) -> int:
    """Count word by word."""
    walk, start = item.descriptor.walk, item.start
    images, kernel_h = walk.planes == 0, 1 if walk.planes == 0 else walk.kernel_h
    found = done = row = 0
    column, x = start.column, start.x
    while done < item.count:
        pixels = min(item.count - done, walk.out_width - column)
        y = start.y + (row % walk.kernel_h if images else row) * walk.stride_y
        steps = range(pixels + item.warm_up)
        for step, ky, kx in product(steps, range(kernel_h), range(walk.kernel_w)):
            at = x + step * walk.stride_x + kx * walk.dilation_x, y + ky * walk.dilation_y
            found += 0 <= at[0] < walk.width and 0 <= at[1] < walk.height
        done, row, column, x = done + pixels, row + 1, 0, start.row_x
    return found * max(walk.planes, 1)


@many(300)
@given(WALKS, PLACE, PLACE, PLACE, st.integers(0, 4), st.integers(1, 30), st.integers(0, 2))
def test_structural_zeros_are_not_read(
    walk: Walk, x: int, row_x: int, y: int, column: int, count: int, warm_up: int
) -> None:
    start = Start(0, 0, min(column, walk.out_width - 1), x, row_x, y)
    descriptor, slots = Descriptor(walk, Results()), TileSlots(descriptor=0)
    item = Pool(start=start, descriptor=descriptor, slots=slots, count=count, warm_up=warm_up)
    assert inside(item) == words_inside(item)


def check(program: Program) -> None:
    """Compare what is accessed with what else is known of the program."""
    for layer, accesses in zip(program.layers, program.accesses, strict=True):
        assert accesses.fetched == layer.words
        assert accesses.stored == layer.stored
        assert list(accesses.reads) == list(accesses.writes) == list(access_bits(program.array))
    found = program.total_accesses
    assert found.fetched == len(program.image)
    assert found.results == sum(tile.count for tile in program.schedule.results)
    for name, count in found.reads.items():
        assert count == sum(item.reads[name] for item in program.accesses)


@many(20)
@given(networks(4), st.integers(1, 3))
def test_layers_add_up(network: IntegerNetwork, batch: int) -> None:
    check(compile(network, ArrayConfig(4, 4, acc_depth=16), batch=batch))


def test_two_layers_by_hand() -> None:
    """16 pixels of 9 operands, and one of 16 taps of two words, each for two column tiles."""
    program = compile(small_network(), ARRAY)
    conv, linear = program.accesses
    words = 16 * 3, 16 * 2  # of a column tile
    assert conv.writes["accumulators"] == 4 * 2 * words[0]
    assert conv.reads["accumulators"] == 4 * 2 * (words[0] - 16)
    assert linear.writes["accumulators"] == 4 * 2 * words[1]
    assert linear.reads["accumulators"] == 4 * 2 * (words[1] - 1)
    assert conv.reads["activations"] == 2 * words[0]
    assert linear.reads["activations"] == 2 * words[1]
    # The packed input, and results of two column tiles.
    assert conv.writes["activations"] == words[0] + 2 * 16
    assert conv.reads["thresholds"] == 4 * 2 * 16 * 4
    assert (conv.results, linear.results) == (0, 2)
    # 9 rows of weights; every tile then has all cells take theirs.
    assert conv.writes["weights"] == 4 * 2 * 9
    assert conv.reads["weights"] == 4 * 4 * 2 * 3


@pytest.mark.parametrize("attention", [False, True])
def test_memories_are_those_that_exist(attention: bool) -> None:
    names = access_bits(ArrayConfig(4, 4, attention=attention))
    assert ("token_sums" in names) == attention
    assert "store_queue" not in names
