"""Runs: what one instruction carries is what its tiles would be one by one, and costs no cycle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.arch.isa import CHECKSUM_BITS, INSTRUCTION, LAG_FREE, STREAMED
from nupes.compiler.emit import schedules
from nupes.compiler.emit.dependencies import lag_after
from nupes.compiler.emit.instructions import End, Instruction, Load, Tile
from nupes.compiler.emit.runs import MOST, join
from nupes.compiler.emit.schedules import schedule
from nupes.compiler.lowering.walks import Start
from nupes.compiler.timing.timeline import predict
from nupes.model.network import IntegerNetwork
from tests.compiler.emit.test_hoisting import load, tile
from tests.compiler.test_program import ARRAYS
from tests.networks import networks
from tests.rtl.tiles import tiles_of

SQUARE, SLICED = ArrayConfig(4, 4), ArrayConfig(2, 8)

MATMUL = {"weight_address", "weight_lag", "weight_slice", "transposed"}
"""Fields that lie where a run is."""


def passes(count: int, step: int, x: int = 0, slices: int = 1) -> list[Tile]:
    """Return the tiles of a column: so many slices of a word, then a step to the next."""
    found = []
    for number in range(count):
        steps, part = divmod(number, slices)
        address, column = 100 + steps * step, steps * x - 1
        start = Start(address % 2**20, (address - 7) % 2**20, 2, column, column - 3, 5)
        item = replace(tile(4, 3), start=start, first=number == 0, finish=number == count - 1)
        found.append(replace(item, slice=part, after=1, lag=0))
    return found


def alone(item: Instruction) -> Instruction:
    """Return an instruction without its run, or a tile of a run as one of its own."""
    return replace(item, run=None, follows=False) if isinstance(item, Tile) else item


def fields(item: Instruction, config: ArrayConfig) -> list[dict[str, int]]:
    """Return the tiles of an instruction, as the hardware reads it."""
    body = item.pack() & ((1 << INSTRUCTION_BITS - CHECKSUM_BITS) - 1)
    return list(tiles_of(body, config))


def lengths(program: list[Instruction]) -> list[int]:
    """Return how many tiles each instruction carries; a LOAD or END none."""
    return [
        0 if not isinstance(item, Tile) else 1 if item.run is None else item.run.more + 1
        for item in program
        if not item.follows
    ]


@pytest.mark.parametrize(
    ("tiles", "config"),
    [
        (passes(3, 1, 1), SQUARE),
        (passes(3, 2, 15), SQUARE),
        (passes(9, 85), SQUARE),
        (passes(9, -85), SQUARE),
        (passes(9, 85, slices=4), SLICED),
        (passes(3, 85, slices=4), SLICED),
        (passes(MOST, 1), SQUARE),
    ],
)
def test_constant_steps_are_one_run(tiles: list[Tile], config: ArrayConfig) -> None:
    program = join([*tiles, End()], config)
    assert lengths(program) == [len(tiles), 0]
    assert [item.follows for item in program] == [False] + [True] * (len(tiles) - 1) + [False]


@pytest.mark.parametrize(
    "change",
    [
        {"count": 4},
        {"shift": 1},
        {"joined": True},
        {"kept": True},
        {"payload": tile(3, 3).payload},
        {"payload": replace(tile(4, 3).payload, masked=True)},
        {"slots": replace(tile(4, 3).slots, weight=1)},
        {"slots": replace(tile(4, 3).slots, activation=1)},
        {"slots": replace(tile(4, 3).slots, descriptor=1)},
        {"out_slice": 1},
        {"slice": 1},
        {"multiplies": True},
        {"chase": 102},
        {"first": True},
        {"mark": True},
        {"after": 2},
        {"start": replace(passes(5, 1)[2].start, y=6)},
        {"start": replace(passes(5, 1)[2].start, column=3)},
        {"start": replace(passes(5, 1)[2].start, x=9)},
        {"start": replace(passes(5, 1)[2].start, row_x=9)},
        {"start": replace(passes(5, 1)[2].start, address=9)},
        {"start": replace(passes(5, 1)[2].start, row_address=9)},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_differs_is_no_run(change: dict) -> None:
    tiles = passes(5, 1)
    tiles[2] = replace(tiles[2], **change)
    assert lengths(join(tiles, SQUARE))[0] == 2


@pytest.mark.parametrize(
    "tiles",
    [
        passes(4, 1, -1),  # the steps of a column only grow
        passes(4, 1, 16),
        [replace(item, payload=tile(0, 3).payload) for item in passes(4, 1)],
        [replace(item, multiplies=True) for item in passes(4, 1)],
        [replace(item, chase=100) for item in passes(4, 1)],
        [replace(item, finish=True) for item in passes(4, 1)],
    ],
)
def test_what_the_instruction_cannot_say_is_no_run(tiles: list[Tile]) -> None:
    assert lengths(join(tiles, SQUARE)) == [1] * 4


def test_a_run_has_a_length() -> None:
    assert lengths(join(passes(MOST + 3, 1), SQUARE)) == [MOST, 3]


@pytest.mark.parametrize(
    ("count", "user", "due", "carried"),
    [
        (3, -1, 8, [1, 1, 1, 0, 6]),
        (4, 0, 8, [1, 1, 1, 0, 6]),
        (3, 1, 8, [1, 1, 1, 5, 0, 1]),  # tile 1 may be at work when the run begins
        (3, 6, 8, [1, 1, 1, 5, 0, 1]),
        (5, -1, 8, [1, 1, 1, 5, 0, 1]),  # the port has time between the tiles
        (3, -1, -1, [1, 1, 1, 5, 0, 1]),  # an input stays where it is
    ],
)
def test_loads_go_before_a_run(count: int, user: int, due: int, carried: list[int]) -> None:
    lone = [replace(item, finish=True) for item in passes(3, 1)]
    tiles = [replace(item, count=count) for item in passes(6, 1)]
    program = join([*lone, *tiles[:5], load(3, user, due), tiles[5]], SQUARE)
    assert lengths(program) == carried
    (item,) = (item for item in program if isinstance(item, Load))
    assert carried[3] or item.lag == lag_after(user, 3)


def test_a_load_and_what_breaks_a_run_keep_their_order() -> None:
    tiles = passes(6, 1)
    tiles[4] = replace(tiles[4], shift=1)
    program: list[Instruction] = [*tiles[:4], load(3, -1, 4), *tiles[4:], End()]
    assert lengths(join(program, SQUARE)) == [4, 0, 1, 1, 0]


def test_results_are_those_of_the_last_tile() -> None:
    tiles = passes(4, 1)
    slots = replace(tiles[3].slots, param=5)
    done = {"out_address": 77, "residual_address": 88, "gathers": True, "gathers_last": True}
    tiles[3] = replace(tiles[3], slots=slots, **done)
    found = fields(join(tiles, SQUARE)[0], SQUARE)
    assert [item["last"] for item in found] == [item["gather"] for item in found] == [0, 0, 0, 1]
    shown = {name: found[3][name] for name in ("param_slot", "out_address", "residual_address")}
    assert shown == {"param_slot": 5, "out_address": 77, "residual_address": 88}


@given(networks(), ARRAYS)
def test_a_run_means_its_tiles(network: IntegerNetwork, config: ArrayConfig) -> None:
    program = schedule(network, config).instructions
    tiles = [item for item in program if isinstance(item, Tile)]
    position = 0
    while position < len(tiles):
        found = fields(tiles[position], config)
        for number, one in enumerate(found):
            item = tiles[position + number]
            (wanted,) = fields(alone(item), config)
            assert item.follows == (number > 0)
            assert item.lag == LAG_FREE or not item.follows
            ignored = MATMUL | {"lag", "mark"}
            if not wanted["last"]:  # where results go is of no account
                ignored |= {"param_slot", "out_address", "residual_address"}
            for name in one.keys() - ignored:
                size = {field.name: field.width for field in (*INSTRUCTION, *STREAMED)}[name]
                assert (one[name] - wanted[name]) % (1 << size) == 0, name
        position += len(found)


@given(networks(), ARRAYS, st.sampled_from([1, 20, 100]))
def test_a_run_costs_no_cycle(network: IntegerNetwork, config: ArrayConfig, latency: int) -> None:
    program = schedule(network, config).instructions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedules, "join", lambda apart, config: list(apart))
        apart = schedule(network, config).instructions
    assert not any(item.follows for item in apart)
    assert predict(program, config, latency).cycles <= predict(apart, config, latency).cycles


@given(networks(), ARRAYS)
def test_what_a_run_reads_is_complete(network: IntegerNetwork, config: ArrayConfig) -> None:
    """A tile that follows waits for nothing: an earlier one has waited for as much."""
    awaited = -1
    for item in schedule(network, config).instructions:
        if isinstance(item, Tile):
            assert not item.follows or item.after <= awaited
        awaited = max(awaited, getattr(item, "after", -1))
