"""Runs: one instruction carries tiles that differ by constant steps, so that behind it nothing but
weights crosses the port.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import RUN
from nupes.compiler.emit.dependencies import lag_after
from nupes.compiler.emit.hoisting import MARGIN
from nupes.compiler.emit.instructions import Instruction, Load, Run, Streamed, Tile
from nupes.compiler.lowering.passes import Payload
from nupes.compiler.lowering.walks import Start, wrap

__all__ = ["join"]

WIDTHS = {item.name: item.width for item in RUN}

MOST = 1 << WIDTHS["more"]
"""Tiles of a run at most."""


def join(program: Sequence[Instruction], config: ArrayConfig) -> list[Instruction]:
    """Return a program whose tiles are in runs wherever nothing stands between them.

    A tile that follows waits for no results: those that it reads are complete since a tile before
    it has started. LOADs between tiles that take the port longer than the array go before the run.
    """
    parts = config.lanes // config.rows
    result: list[Instruction] = []
    tiles: list[Tile] = []
    between: list[Instruction] = []  # behind the latest of the tiles
    index, complete = 0, -1  # of the next tile; the newest tile that a tile has waited for
    like: tuple = ()  # what the tiles have in common
    for item in program:
        if not isinstance(item, Streamed):
            between.append(item)
            continue
        if isinstance(item, Tile) and tiles and item.after <= complete and key(item) == like:
            loads = lift(between, tiles[0], index - len(tiles)) if between else []
            if loads is not None and run_of(tiles, item, parts) is not None:
                result += loads
                between.clear()
                tiles.append(item)
                index += 1
                continue
        result += [*carry(tiles, parts), *between]
        between.clear()
        tiles = []
        if isinstance(item, Tile) and begins(item):
            tiles, like = [item], key(item)
        result += [] if tiles else [item]
        index, complete = index + 1, max(complete, item.after)
    return [*result, *carry(tiles, parts), *between]


def lift(between: Sequence[Instruction], first: Tile, index: int) -> list[Load] | None:
    """Return LOADs as they go before tile ``index``, with which a run begins; ``None`` if they stay
    where they are."""
    loads = [item for item in between if isinstance(item, Load) and item.due >= 0]
    busy = first.stream_cycles > first.words
    if len(loads) < len(between) or any(busy or index < load.user + MARGIN for load in loads):
        return None
    return [replace(load, lag=lag_after(load.user, index)) for load in loads]


def begins(tile: Tile) -> bool:
    """Whether a run may begin with a tile."""
    carried = isinstance(tile.payload, Payload) and tile.payload.rows > 0
    return carried and not (tile.kept or tile.multiplies or tile.finish or tile.chase >= 0)


def run_of(tiles: Sequence[Tile], last: Tile, parts: int) -> Run | None:
    """Return the run of some tiles, known to be one, and of another tile, which has the same in
    common with them; ``None`` if that one is none of it."""
    first, count = tiles[0], len(tiles) + 1
    if tiles[-1].finish or last.first or last.mark:
        return None
    second = tiles[1] if count > 2 else last
    slices = second.slice != first.slice
    index = min(parts - first.slice if slices else 1, count - 1)
    turn = tiles[index] if index < count - 1 else last
    step = wrap(turn.start.address - first.start.address)
    x = turn.start.y - first.start.y if first.warm_up else turn.start.x - first.start.x
    run = Run(count - 1, step, x, slices, last)
    fits = count <= MOST and 0 <= x < 1 << WIDTHS["run_x"]
    return run if fits and place(first, run, parts) == (last.start, last.slice) else None


def key(tile: Tile) -> tuple:
    """Return what tiles of a run have in common."""
    payload, slots = tile.payload, tile.slots
    return (
        isinstance(payload, Payload) and (payload.rows, payload.masked, payload.joined),
        (slots.descriptor, slots.weight, slots.activation),
        (tile.multiplies, tile.chase, tile.count, tile.shift, tile.out_slice),
        (tile.joined, tile.kept, tile.warm_up),
    )


def place(first: Tile, run: Run, parts: int) -> tuple[Start, int]:
    """Return the start and the slice of the last tile of a run."""
    steps, part = divmod(first.slice + run.more, parts) if run.slices else (run.more, first.slice)
    start, step = first.start, steps * run.step
    x, y = (0, steps * run.x) if first.warm_up else (steps * run.x, 0)
    last = Start(
        wrap(start.address + step),
        wrap(start.row_address + step),
        start.column,
        start.x + x,
        start.row_x + x,
        start.y + y,
    )
    return last, part


def carry(tiles: Sequence[Tile], parts: int) -> Iterator[Tile]:
    """Yield the tiles of a run, the first one with it; a single tile as it is."""
    if len(tiles) < 2:
        yield from tiles
        return
    yield replace(tiles[0], run=run_of(tiles[:-1], tiles[-1], parts))
    for tile in tiles[1:]:
        yield tile.following()
