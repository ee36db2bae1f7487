"""The sequencer, cycle by cycle against the times that its docstring states."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import INSTRUCTION_BITS, ArrayConfig
from nupes.arch.encoding import pack_instruction
from nupes.arch.isa import (
    ADDRESS_BITS,
    BANKS,
    INSTRUCTION,
    LAG_FREE,
    Destination,
    Opcode,
    Status,
    unpack,
)
from nupes.rtl.control.sequencer import Sequencer
from tests.rtl.bench import execute
from tests.rtl.tiles import tiles_of

ATTENTION = ArrayConfig(rows=2, cols=2, attention=True)
UNIFORM = ArrayConfig(2, 2, mac="uniform")
CONFIGS = [
    ArrayConfig(rows=2, cols=2, act_depth=16),
    ArrayConfig(rows=2, cols=2, act_depth=16, products=True),
    ArrayConfig(rows=2, cols=8, act_depth=16),  # words of four slices
    ArrayConfig(rows=24, cols=24, act_depth=16),  # instructions of 3 words of 96 bits
    ArrayConfig(rows=40, cols=40, act_depth=16, code_bits=8),  # 320 bits
]

Instructions = list[tuple[dict[str, int], list[int]]]
"""Fields and payload of each."""


@dataclass
class Times:
    """What happened when."""

    consumed: list[int] = field(default_factory=list)
    loads: list[tuple[int, int, int, int]] = field(default_factory=list)
    weights: list[tuple[int, int, int]] = field(default_factory=list)
    lower: list[tuple[int, int]] = field(default_factory=list)  # digits of weights
    dispatched: list[int] = field(default_factory=list)
    pointer: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])  # where it changes
    tiles: list[dict[str, int]] = field(default_factory=list)
    finished: int | None = None

    def point(self, cycle: int, value: int) -> None:
        """Note the write pointer of a cycle."""
        if value != self.pointer[-1][1]:
            self.pointer.append((cycle, value))


@dataclass
class World:
    """Everything around the sequencer, decided in advance."""

    valid: list[bool]
    write_busy: list[int]  # one bit per bank
    accept_delay: list[int]  # per tile, from dispatch
    begin_delay: list[int]  # from accept + 1
    retire_delay: list[int]  # from the first word


def shown(tile: dict[str, int], number: int) -> dict[str, int]:
    """Return what the stream engine must see of tile ``number`` of a run."""
    names = (item.name for item in INSTRUCTION)
    alone = {"lag": LAG_FREE, "mark": 0} if number else {}
    limits = {"address": ADDRESS_BITS, "row_address": ADDRESS_BITS}
    fields = {name: tile[name] for name in names if not name.startswith(("weight_", "trans"))}
    wrapped = {name: fields[name] % (1 << bits) for name, bits in limits.items()}
    return fields | wrapped | alone


def expected(
    config: ArrayConfig, program: list[tuple[dict[str, int], list[int]]], world: World
) -> Times:
    """Return the times of a program of (fields, payload)."""
    times, now, tiles = Times(), 0, 0
    begun = -1  # cycle in which the latest tile issued its first word
    retired: list[int] = []

    def consume(banks: int = 0, earliest: int = 0) -> int:
        """Take a word that needs these banks (one bit each)."""
        nonlocal now
        now = max(now, earliest)
        while not world.valid[now] or banks & world.write_busy[now]:
            now += 1
        times.consumed.append(now)
        now += 1
        return now - 1

    for fields, payload in program:
        for _ in range(config.instruction_words):
            consume()
        opcode, lag = fields["opcode"], fields.get("lag", 0)
        loads = opcode == Opcode.LOAD
        while True:  # DECODE in cycle now
            unfinished = tiles - sum(cycle < now for cycle in retired)
            if opcode == Opcode.END and unfinished == 0:
                times.finished = now
                return times
            if loads and (lag == LAG_FREE or unfinished <= lag):
                break
            if opcode in (Opcode.TILE, Opcode.MULTIPLY, Opcode.POOL) and begun < now:
                break
            now += 1
        now += 1
        if loads:
            stores = fields["destination"] == Destination.ACTIVATION
            if stores:
                times.point(now, fields["address"])
            for index, word in enumerate(payload):
                place = fields.get("address", 0) + index
                cycle = consume(1 << place % BANKS if stores else 0)
                times.loads.append((cycle, fields["destination"], place, word))
                if stores:
                    times.point(cycle + 1, place + 1)
            continue
        run = list(tiles_of(pack_instruction(fields), config))
        size = len(payload) // len(run)
        for number, tile in enumerate(run):
            row, each = 0, 1 + fields.get("masked", 0) + fields.get("weights_joined", 0)
            for index, word in enumerate(payload[number * size : (number + 1) * size]):
                cycle = consume(earliest=begun if number else 0)
                if index % each == each - 1:
                    times.weights.append((cycle, row, word))
                    row += 1
                elif index % each == each - 2 and fields.get("weights_joined"):
                    times.lower.append((cycle, word))
            times.tiles.append(shown(tile, number))
            times.dispatched.append(now - 1 if size else now)
            begun = times.dispatched[-1] + world.accept_delay[tiles] + 1 + world.begin_delay[tiles]
            retired.append(begun + world.retire_delay[tiles])
            tiles += 1
    raise AssertionError("program without END")


def observed(config: ArrayConfig, words: list[int], world: World) -> Times:
    """Run the sequencer in the same world."""
    sequencer, times = Sequencer(config), Times()
    begins: set[int] = set()
    retires: set[int] = set()
    waiting: list[int] = []

    async def bench(context: Any, reset: Signal) -> None:
        position = 0
        context.set(sequencer.results_empty, 1)
        for now in range(len(world.valid)):
            valid = world.valid[now] and position < len(words)
            context.set(sequencer.words.valid, valid)
            context.set(sequencer.words.payload, words[position] if valid else 0)
            context.set(sequencer.write_busy, world.write_busy[now])
            context.set(sequencer.begun, now in begins)
            context.set(sequencer.retire, now in retires)
            context.set(sequencer.tile.ready, 0)
            if context.get(sequencer.tile.valid) and not waiting:
                tile = len(times.dispatched)
                times.dispatched.append(now)
                accept = now + world.accept_delay[tile]
                waiting.append(accept)
                begins.add(accept + 1 + world.begin_delay[tile])
                retires.add(accept + 1 + world.begin_delay[tile] + world.retire_delay[tile])
            context.set(sequencer.tile.ready, waiting == [now])
            if waiting == [now]:
                fields = unpack(INSTRUCTION, context.get(sequencer.tile.payload.as_value()))
                # What the tile has where MATMUL has its weights is of no account.
                times.tiles.append({name: fields[name] for name in shown(fields, 0)})
                waiting.clear()
            times.point(now, context.get(sequencer.loaded))
            load, weights = sequencer.load, sequencer.weights
            if context.get(load.valid):
                entry = (load.destination, load.address, load.data)
                times.loads.append((now, *(context.get(item) for item in entry)))
            if context.get(weights.valid):
                codes = context.get(weights.codes.as_value())
                times.weights.append((now, context.get(weights.row), codes))
            if config.joins_weights and context.get(weights.lower):
                times.lower.append((now, context.get(weights.codes.as_value())))
            if context.get(sequencer.consume):
                times.consumed.append(now)
                position += 1
            if context.get(sequencer.finish) != Status.RUNNING:
                assert context.get(sequencer.finish) == Status.OK
                times.finished = now
                return
            await context.tick()

    execute(sequencer, bench)
    return times


def split(config: ArrayConfig, raw: int) -> list[int]:
    """Return an instruction's port words."""
    bits = config.port_bits
    return [raw >> (i * bits) & (2**bits - 1) for i in range(config.instruction_words)]


def random_program(config: ArrayConfig, chance: random.Random) -> Instructions:
    """Return a few instructions and END."""
    program: Instructions = []
    for _ in range(chance.randint(1, 8)):
        tiles = [Opcode.TILE, Opcode.MULTIPLY if config.products else Opcode.TILE]
        opcode = chance.choice([Opcode.LOAD, *tiles, Opcode.POOL])
        fields = {"opcode": opcode, "lag": chance.choice([0, 1, 3, LAG_FREE]), "count": 5}
        payload: list[int] = []
        if opcode == Opcode.LOAD:
            payload = [chance.getrandbits(config.port_bits) for _ in range(chance.randint(0, 9))]
            destination = chance.choice([Destination.ACTIVATION, Destination.MAP])
            fields |= {"destination": destination, "address": 3, "count": len(payload)}
        elif opcode in tiles:
            rows, masked = chance.randint(0, config.rows), chance.randrange(2)
            kept = chance.randrange(4) == 0
            join = {"joined": int(config.joins and chance.getrandbits(1))}
            join |= {"weights_joined": int(config.joins_weights and chance.getrandbits(1))}
            run = {"run_step": chance.getrandbits(20), "run_x": chance.randrange(16)}
            run |= {"run_slices": chance.getrandbits(1)}
            run |= {"more": chance.choice([0, 1, 5]) if rows and not kept else 0, "kept": kept}
            payload = [
                chance.getrandbits(config.cols * config.code_bits)
                for _ in range(rows * (1 + masked + join["weights_joined"]) * (run["more"] + 1))
                if not kept
            ]
            fields |= {name: chance.getrandbits(1) for name in ("first", "last", "mark", "gather")}
            fields |= {name: chance.getrandbits(20) for name in ("address", "row_address")}
            fields |= {name: chance.randint(-99, 99) for name in ("x", "row_x", "y")}
            fields |= {"slice": chance.randrange(max(1, config.lanes // config.rows))}
            fields |= {"rows": rows, "masked": masked, "weight_slot": 1, **run, **join}
        program.append((fields, payload))
    return [*program, ({"opcode": Opcode.END}, [])]


@settings(max_examples=25, deadline=None)
@given(
    config=st.sampled_from(CONFIGS),
    seed=st.integers(0, 2**32),
    supply=st.sampled_from([0.3, 0.8, 1]),
    busy=st.sampled_from([0, 0.3]),
    slow=st.sampled_from([0, 10, 60]),
)
def test_times(config: ArrayConfig, seed: int, supply: float, busy: float, slow: int) -> None:
    chance = random.Random(seed)
    program = random_program(config, chance)
    words = [
        word
        for fields, payload in program
        for word in split(config, pack_instruction(fields)) + payload
    ]
    cycles, most = 9000, 6 * len(program)
    world = World(
        [chance.random() < supply for _ in range(cycles)],
        [sum((chance.random() < busy) << bank for bank in range(BANKS)) for _ in range(cycles)],
        *([chance.randint(0, slow) for _ in range(most)] for _ in range(2)),
        retire_delay=[200] * most,  # equal: tiles retire in order, in different cycles
    )
    assert observed(config, words, world) == expected(config, program, world)


@pytest.mark.parametrize("slices", [0, 1])
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=str)
def test_steps_of_a_run(config: ArrayConfig, slices: int) -> None:
    """Of nine tiles; where a word has several slices the first tile begins with another than 0."""
    part = min(1, config.lanes // config.rows - 1)
    run = {"more": 8, "run_step": 2**20 - 5, "run_x": 3, "run_slices": slices}
    fields = {"opcode": Opcode.TILE, "rows": 2, "count": 5, "lag": 1, "slice": part, **run}
    fields |= {"first": 1, "last": 1, "mark": 1, "gather": 1, "address": 9, "row_address": 7}
    fields |= {"x": -4, "row_x": -6, "y": 3}
    program: Instructions = [(fields, list(range(18))), ({"opcode": Opcode.END}, [])]
    words = [*split(config, pack_instruction(fields)), *range(18)]
    words += split(config, pack_instruction({"opcode": Opcode.END}))
    world = World([True] * 400, [0] * 400, [0, 1, 2] * 3, [0, 2, 1] * 3, [99] * 9)
    assert observed(config, words, world) == expected(config, program, world)


def decode(config: ArrayConfig, instructions: list[int]) -> list[Status]:
    """Return ``finish`` in the first cycle of DECODE of each instruction."""
    sequencer = Sequencer(config)
    statuses = []

    async def bench(context: Any, reset: Signal) -> None:
        context.set(sequencer.words.valid, 1)
        context.set(sequencer.results_empty, 1)
        for raw in instructions:
            context.set(reset, 1)
            await context.tick()
            context.set(reset, 0)
            for word in split(config, raw):
                assert context.get(sequencer.finish) == Status.RUNNING
                context.set(sequencer.words.payload, word)
                await context.tick()
            statuses.append(context.get(sequencer.finish))

    execute(sequencer, bench)
    return statuses


@pytest.mark.parametrize("config", CONFIGS[1:], ids=str)
def test_every_flipped_bit_is_found(config: ArrayConfig) -> None:
    fields = {"opcode": Opcode.TILE, "rows": 2, "count": 77, "address": 0x12345, "y": -1}
    good = pack_instruction(fields)
    flipped = [good ^ (1 << bit) for bit in range(INSTRUCTION_BITS)]
    assert decode(config, [good]) == [Status.RUNNING]
    assert set(decode(config, flipped)) == {Status.BAD_INSTRUCTION}


@pytest.mark.parametrize("config", [*CONFIGS[:2], ATTENTION, UNIFORM])
def test_what_does_not_exist_is_refused(config: ArrayConfig) -> None:
    tile = {"opcode": Opcode.TILE, "rows": 2, "count": 1}
    bad, good = [{"opcode": opcode} for opcode in (0, 5, 6, 7)], []
    (good if config.products else bad).append(tile | {"opcode": Opcode.MULTIPLY})
    for opcode in (Opcode.MATMUL, Opcode.MEASURE):
        (good if config.attention else bad).append(tile | {"opcode": opcode})
    bad.append({"opcode": Opcode.MATMUL, "rows": 0, "count": 1})
    bad += [{"opcode": Opcode.LOAD, "destination": place} for place in range(Destination.FENCE, 16)]
    bad += [tile | {"count": 0}, tile | {"rows": 3}, {"opcode": Opcode.POOL}]
    bad.append(tile | {"rows": 0, "more": 1})
    good += [tile, tile | {"more": 1}, tile | {"rows": 0}, {"opcode": Opcode.POOL, "count": 1}]
    # Arrays that do not spill have no fences.
    there = [place for place in Destination if place != Destination.FENCE]
    good += [{"opcode": Opcode.LOAD, "destination": place} for place in there]
    (good if config.joins else bad).append(tile | {"joined": 1})
    (good if config.joins_weights else bad).append(tile | {"weights_joined": 1})
    good.append(tile | {"kept": 1})
    bad.append(tile | {"kept": 1, "more": 1})
    assert decode(config, [pack_instruction(fields) for fields in good]) == [0] * len(good)
    refused = decode(config, [pack_instruction(fields) for fields in bad])
    assert refused == [Status.BAD_INSTRUCTION] * len(bad)
    assert decode(config, [0, 2**256 - 1]) == [Status.BAD_INSTRUCTION] * 2
    assert decode(config, [pack_instruction({"opcode": Opcode.END})]) == [Status.OK]


def test_masks_reach_their_rows() -> None:
    config, seen = CONFIGS[0], []
    sequencer = Sequencer(config)
    fields = {"opcode": Opcode.TILE, "rows": 2, "masked": 1, "count": 1, "weight_slot": 3}
    words = [*split(config, pack_instruction(fields)), 0b01, 0x5A, 0b10, 0xC3]

    async def bench(context: Any, reset: Signal) -> None:
        context.set(sequencer.words.valid, 1)
        weights = sequencer.weights
        for word in [*words[: config.instruction_words], 0, *words[config.instruction_words :]]:
            context.set(sequencer.words.payload, word)
            if context.get(weights.valid):
                names = (weights.row, weights.mask, weights.codes.as_value(), weights.slot)
                seen.append(tuple(context.get(item) for item in names))
            await context.tick()
        tile = context.get(sequencer.tile.payload.as_value())
        assert context.get(sequencer.tile.valid)
        assert unpack(INSTRUCTION, tile) == {f.name: fields.get(f.name, 0) for f in INSTRUCTION}

    execute(sequencer, bench)
    assert seen == [(0, 0b01, 0x5A, 3), (1, 0b10, 0xC3, 3)]


@pytest.mark.parametrize("lag", [0, 1, LAG_FREE])
@pytest.mark.parametrize("takes", [1, 7])
def test_a_matmul_waits_for_its_weights(lag: int, takes: int) -> None:
    """Behind a tile that retires in some cycle; a third instruction follows at once."""
    config, sequencer, retires, begins = ATTENTION, Sequencer(ATTENTION), 25, 12
    fields = [
        {"opcode": Opcode.POOL, "count": 1},
        {"opcode": Opcode.MATMUL, "rows": 2, "count": 3, "weight_lag": lag, "weight_slot": 1},
        {"opcode": Opcode.POOL, "count": 2},
    ]
    words = [word for item in fields for word in split(config, pack_instruction(item))]
    starts, tiles, consumed = [], [], []

    async def bench(context: Any, reset: Signal) -> None:
        done = -1
        for cycle in range(60):
            context.set(sequencer.words.valid, int(len(consumed) < len(words)))
            context.set(sequencer.words.payload, words[min(len(consumed), len(words) - 1)])
            context.set(sequencer.tile.ready, 1)
            context.set(sequencer.begun, int(cycle in (begins, 45)))
            context.set(sequencer.retire, int(cycle == retires))
            context.set(sequencer.stationary_last, int(cycle == done))
            if context.get(sequencer.stationary):
                starts.append(cycle)
                done = cycle + takes
                assert context.get(sequencer.instruction.weight_slot) == 1
            if context.get(sequencer.tile.valid):
                tiles.append((cycle, context.get(sequencer.tile.payload.count)))
            if context.get(sequencer.consume):
                consumed.append(cycle)
            await context.tick()

    execute(sequencer, bench)
    begin = (retires if lag == 0 else begins) + 1
    size = config.instruction_words
    assert starts == [begin]
    assert tiles[:2] == [(size + 1, 1), (begin + takes, 3)]
    assert consumed[2 * size] == begin + takes + 1
    assert tiles[2] == (46 + 1, 2)
