"""The stream engine: the walk against nested loops, the cycle of every issue against its rules."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    INSTRUCTION,
    LAG_FREE,
    Destination,
    Field,
    Opcode,
    pack,
)
from nupes.rtl.control.stream import StreamEngine
from tests.rtl.bench import execute
from tests.rtl.tiles import Word, walk, warm_up_of

EVERYWHERE = DESCRIPTOR[: [item.name for item in DESCRIPTOR].index("out_wide")]
"""The fields that every array has."""

PLAIN = ArrayConfig(rows=4, cols=4, act_depth=64, acc_depth=16, tensor_bits=4)
CONFIG = replace(PLAIN, products=True)


def fields_of(table: tuple[Field, ...], chance: random.Random, **limits: int) -> dict[str, int]:
    """Return random values of a layout: 0 .. limit, signed fields also below 0."""
    values = {}
    for item in table:
        limit = limits[item.name] if item.name in limits else 2**item.width - 1
        low = -limit if item.signed else 0
        values[item.name] = chance.randint(low, limit)
    return values


def random_layer(chance: random.Random) -> dict[str, int]:
    """Return a descriptor whose walk is short; steps are any."""
    small = dict.fromkeys(("kernel_w", "kernel_h", "planes", "stride_x", "stride_y"), 3)
    small |= dict.fromkeys(("dilation_x", "dilation_y", "out_width", "width", "height"), 6)
    layer = fields_of(EVERYWHERE, chance, **small, encoder_depth=chance.choice([0, 5]))
    return layer | {"out_width": max(1, layer["out_width"])}


def random_tile(chance: random.Random, layers: list[dict[str, int]]) -> dict[str, int]:
    """Return a TILE or POOL of one of the layers."""
    tile = fields_of(INSTRUCTION, chance, x=4, row_x=4, y=4, column=5, count=8, param_slot=31)
    tile["count"] += chance.choice([0, 0, 40])
    tile["opcode"] = chance.choice([Opcode.TILE, Opcode.TILE, Opcode.MULTIPLY, Opcode.POOL])
    tile["lag"] = chance.choice([0, 1, 2, LAG_FREE])
    tile["chase"] = int(chance.random() < 0.2)
    tile["column"] %= layers[tile["descriptor"]]["out_width"]
    tile["count"] = max(1, tile["count"])
    tile["activation_slot"] %= CONFIG.table_slots
    return tile


def multiplies(tile: dict[str, int], word: Word) -> bool:
    """Whether the sums of a word are multiplied by a residual."""
    return tile["opcode"] == Opcode.MULTIPLY and not word.early


@dataclass
class Issue:
    """A word and when it is issued."""

    cycle: int
    tile: int
    word: Word
    last: bool


@dataclass
class World:
    """Everything around the engine."""

    dispatch: list[int]  # earliest cycle of each tile
    loaded: list[int]  # LOAD write pointer per cycle
    retire_delay: int
    take_delay: list[int]  # from a result's issue until it is taken


def expected(tiles: list[dict], layers: list[dict], world: World) -> list[Issue]:
    """Return every issue by the rules of the docstring."""
    issues: list[Issue] = []
    retired: list[int] = []
    taken: list[int] = []
    ready = 0  # when the previous tile's final word was issued
    free = 0  # when the hold of the latest ``last`` word is over
    shown = 0
    for number, tile in enumerate(tiles):
        layer = layers[tile["descriptor"]]
        is_pool = tile["opcode"] == Opcode.POOL
        accept = max(ready, world.dispatch[number], shown)
        while True:
            unfinished = number - sum(cycle < accept for cycle in retired)
            lag_met = tile["lag"] == LAG_FREE or unfinished <= tile["lag"]
            if lag_met and not (is_pool and unfinished):
                break
            accept += 1
        shown = accept + 1  # the dispatch slot is free for the next tile
        now = accept + 1
        for word in walk(tile, layer):
            last = word.last and not word.early and bool(tile["last"] or is_pool)
            host = last and not is_pool and layer["encoder_depth"] == 0
            now = max(now, free)
            while tile["chase"] and word.inside and word.address >= world.loaded[now]:
                now += 1
            while host and len(taken) - sum(t < now for t in taken) >= CONFIG.result_depth:
                now += 1
            issues.append(Issue(now, number, word, last))
            if host:
                taken.append(max(now + world.take_delay[len(taken)], taken[-1] + 1 if taken else 0))
            if last or multiplies(tile, word):
                free = now + layer["pace"]
            now += 1
        ready = issues[-1].cycle
        retired.append(ready + world.retire_delay)
    return issues


def observe(
    tiles: list[dict], layers: list[dict], world: World, cycles: int, config: ArrayConfig = CONFIG
) -> list[dict]:
    """Return what the engine says in every cycle with an issue."""
    engine, seen = StreamEngine(config), []

    async def bench(context: Any, reset: Signal) -> None:
        load = engine.load
        for slot, layer in enumerate(layers):
            for index in range(DESCRIPTOR_WORDS):
                word = pack(DESCRIPTOR, layer) >> (64 * index) & (2**64 - 1)
                entry = (1, int(Destination.DESCRIPTOR), slot << 3 | index, word)
                names = (load.valid, load.destination, load.address, load.data)
                for signal, value in zip(names, entry, strict=True):
                    context.set(signal, value)
                await context.tick()
        context.set(load.valid, 0)
        retires: set[int] = set()
        takes: list[int] = []
        number = issuing = 0
        for now in range(cycles):
            offered = number < len(tiles) and now >= world.dispatch[number]
            context.set(engine.tile.valid, offered)
            if offered:
                context.set(engine.tile.payload.as_value(), pack(INSTRUCTION, tiles[number]))
            context.set(engine.loaded, world.loaded[now])
            context.set(engine.retire, now in retires)
            context.set(engine.result_taken, now in takes)
            accepted = offered and context.get(engine.tile.ready)
            if context.get(engine.issue):
                row: dict[str, Any] = {"cycle": now, "tile": issuing}
                for name in (
                    "address",
                    "second_address",
                    "begun",
                    "mark",
                    "feed",
                    "control",
                    "link",
                    "pool",
                ):
                    row[name] = context.get(getattr(engine, name))
                for name in ("outputs", "residuals"):
                    port = getattr(engine, name)
                    row[name] = context.get(port.payload) if context.get(port.valid) else None
                seen.append(row)
                if row["outputs"] is not None and row["residuals"] is not None:
                    if not row["control"].encoder_depth:
                        delay = world.take_delay[len(takes)]
                        takes.append(max(now + delay, takes[-1] + 1 if takes else 0))
                if row["control"].end if not row["pool"].valid else row["pool"].end:
                    retires.add(now + world.retire_delay)
                    issuing += 1
            number += bool(accepted)
            await context.tick()

    execute(engine, bench)
    return seen


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    gap=st.sampled_from([0, 3, 40]),
    take=st.sampled_from([20, 60, 200]),
)
def test_issues(seed: int, gap: int, take: int) -> None:
    chance = random.Random(seed)
    layers = [random_layer(chance) for _ in range(4)]
    tiles = [random_tile(chance, layers) for _ in range(chance.randint(1, 5))]
    dispatch = [0]
    for _ in tiles:
        dispatch.append(dispatch[-1] + chance.randint(0, gap))
    cycles, pointer, loaded = 20000, 0, []
    for _ in range(cycles):
        loaded.append(min(pointer, 2**20 - 1))
        pointer += chance.randrange(0, 4096)
    # The pointer never passes the highest address: let no tile chase it.
    chased = [{word.address for word in walk(t, layers[t["descriptor"]])} for t in tiles]
    for tile, addresses in zip(tiles, chased, strict=True):
        tile["chase"] &= max(addresses) < 2**20 - 1
    world = World(dispatch, loaded, 30, [chance.randint(20, take) for _ in range(400)])
    issues = expected(tiles, layers, world)
    seen = observe(tiles, layers, world, issues[-1].cycle + 10)
    assert [row["cycle"] for row in seen] == [issue.cycle for issue in issues]
    fresh = -1
    for row, issue in zip(seen, issues, strict=True):
        word, tile = issue.word, tiles[issue.tile]
        layer = layers[tile["descriptor"]]
        is_pool = tile["opcode"] == Opcode.POOL
        begun = issue.tile != fresh
        fresh = issue.tile
        assert row["tile"] == issue.tile
        assert row["address"] == word.address % CONFIG.act_depth
        second = word.address + layer["step_plane"]
        assert row["second_address"] == second % CONFIG.act_depth
        assert row["begun"] == begun
        assert row["mark"] == (begun and tile["mark"])
        assert row["control"].valid == (not is_pool and not word.early)
        assert row["pool"].valid == is_pool
        assert row["link"] == (warm_up_of(tile) > 0)
        feed, control, pool = row["feed"], row["control"], row["pool"]
        kept = tile["destination"] >> 2 & 1
        assert feed.swap == (begun and not is_pool and not kept)
        if is_pool:
            flags = (pool.first, pool.last, pool.top, pool.pad, pool.end)
            assert flags == (word.first, word.last, word.top, not word.inside, word.end)
        else:
            assert (feed.pad, feed.rows, feed.slot, feed.slice) == (
                not word.inside,
                tile["rows"],
                tile["activation_slot"],
                tile["slice"],
            )
            assert feed.joined == tile["destination"] & 1
            assert word.early or control.first == (word.first and tile["first"])
            assert (control.last, control.end) == (issue.last, word.end)
            assert control.acc_address == word.pixel % CONFIG.acc_depth
            assert control.multiply == (tile["opcode"] == Opcode.MULTIPLY)
            assert control.param_slot == tile["param_slot"]
            assert control.encoder_slot == layer["encoder_slot"]
            assert control.encoder_depth == layer["encoder_depth"]
        reads = (issue.last and not is_pool) or multiplies(tile, word)
        for name, kind, address, wanted in (
            ("outputs", "out", word.out_address, issue.last),
            ("residuals", "residual", word.residual_address, reads),
        ):
            assert (row[name] is not None) == wanted
            if wanted:
                assert row[name].address == address
                assert row[name].plane_step == layer[f"{kind}_plane_step"]
                assert row[name].planes == layer[f"{kind}_planes"]
                assert row[name].slice == tile["out_slice"]


@pytest.mark.parametrize("config", [PLAIN, CONFIG], ids=["plain", "products"])
def test_back_to_back_tiles_leave_no_gap(config: ArrayConfig) -> None:
    layer = {"out_width": 4, "width": 4, "height": 4, "encoder_depth": 5, "pace": 1}
    layer = pack_defaults(EVERYWHERE) | layer
    tile = pack_defaults(INSTRUCTION) | {"opcode": Opcode.TILE, "count": 7, "lag": LAG_FREE}
    world = World([0] * 5, [0] * 100, 30, [])
    seen = observe([tile] * 4, [layer], world, 40, config)
    assert [row["cycle"] for row in seen] == list(range(1, 29))


def test_every_word_of_a_multiply_reads_its_residual_at_its_pace() -> None:
    """Whether results follow or not; the tile behind it waits as well."""
    layer = pack_defaults(EVERYWHERE) | {"out_width": 4, "encoder_depth": 5, "pace": 3}
    layer |= {"residual_planes": 5, "residual_step": 1}
    tile = pack_defaults(INSTRUCTION) | {"count": 4, "lag": LAG_FREE, "last": 0}
    opcodes = (Opcode.MULTIPLY, Opcode.TILE)
    tiles = [tile | {"opcode": opcode} for opcode in opcodes]
    seen = observe(tiles, [layer], World([0, 0], [0] * 100, 30, []), 40)
    assert [row["cycle"] for row in seen] == [1, 4, 7, 10, 13, 14, 15, 16]
    reads = [row["residuals"].address for row in seen if row["residuals"] is not None]
    assert reads == [0, 1, 2, 3]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 1), (1, 4)])
def test_a_walk_with_steps_of_0_repeats_a_small_map(height: int, width: int) -> None:
    """A map of one pixel, column or row, broadcast over 3 x 4 pixels, from any pixel on."""
    layer = pack_defaults(EVERYWHERE) | {"width": width, "height": height, "out_width": 4}
    layer |= {"planes": 1}
    layer |= {"step_x": int(width > 1), "stride_x": int(width > 1), "encoder_depth": 5}
    layer |= {"step_y": width * (height > 1), "stride_y": int(height > 1)}
    for first in range(12):
        row, column = divmod(first, 4)
        y, x = min(row, height - 1), min(column, width - 1)
        tile = pack_defaults(INSTRUCTION) | {"opcode": Opcode.TILE, "count": 12 - first}
        tile |= {"address": 16 + y * width + x, "row_address": 16 + y * width}
        tile |= {"column": column, "x": x, "y": y}
        seen = observe([tile], [layer], World([0], [0] * 100, 30, []), 20)
        places = [divmod(pixel, 4) for pixel in range(first, 12)]
        assert [(row["address"], row["feed"].pad) for row in seen] == [
            (16 + min(y, height - 1) * width + min(x, width - 1), 0) for y, x in places
        ]


def pack_defaults(table: tuple[Field, ...]) -> dict[str, int]:
    """Return a layout of zeros."""
    return {item.name: 0 for item in table}
