"""Prefetch: move LOADs ahead in the program to where the sequencer would otherwise be idle.

The sequencer prepares a tile while the one before streams. Where the LOADs of a tile make that take
longer than the stream, they go before earlier tiles, in parts if need be, but never before one that
still uses what they overwrite.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.arrival import TILES_BEHIND
from nupes.compiler.emit.dependencies import lag_after
from nupes.compiler.emit.instructions import Instruction, Load, Streamed, Streaming, Tile

__all__ = ["prefetch"]

MARGIN = TILES_BEHIND + 2
"""Tiles between the last user of a slot and a LOAD that moves before the tile that needs it: so it
rarely waits, and never for a tile whose own input is still to come behind it."""

REACH = 64
"""Tiles that a LOAD may move ahead at most."""

LEAST = 16
"""Payload words of a part of a LOAD at least, so that its instruction pays."""


def prefetch(program: Sequence[Instruction], config: ArrayConfig) -> list[Instruction]:
    """Return a program with every LOAD before its ``due`` tile, or earlier where that hides it.

    A LOAD moves only if its tile is late, and only to tiles within ``REACH`` that have room, the
    nearest first: where the sequencer is never idle, moving would only delay the start. All other
    instructions keep their order.
    """
    fixed, loads, tiles = group(program)
    spare = [0]
    for before, stay, due in zip(tiles, fixed[1:], loads[1:], strict=True):
        work = sum(preparation(item, config) for item in (*stay, *due))
        spare.append(before.stream_cycles - work)
    moved: list[list[Load]] = [[] for _ in loads]
    for index in range(len(loads) - 1, -1, -1):
        for load in reversed(loads[index]):
            if spare[index] >= 0:
                moved[index].append(load)
                continue
            spare[index] += preparation(load, config)
            for place, part in divide(load, index, spare, config):
                spare[place] -= preparation(part, config)
                moved[place].append(part)
    result: list[Instruction] = []
    for index, (before, late) in enumerate(zip(fixed, moved, strict=True)):
        if not late:
            result += before
            continue
        here = [replace(load, lag=lag_after(load.user, index)) for load in reversed(late)]
        result += [*before[:-1], *here, *before[-1:]]
    return result


def divide(
    load: Load, index: int, spare: list[int], config: ArrayConfig
) -> Iterator[tuple[int, Load]]:
    """Yield parts of a LOAD of tile ``index``, the last words first, and the tiles to put them
    before; it stays whole if it has a key.

    ``spare`` are each tile's idle cycles; what finds no room stays with its own tile.
    """
    left, overhead = load.words, config.instruction_words + 1
    least = LEAST if load.key is None else left
    first = max(1, index - REACH, load.floor, load.user + MARGIN if load.user >= 0 else 0)
    for place in range(index - 1, first - 1, -1):
        count = min(left, spare[place] - overhead)
        if count and count >= min(left, least):
            left -= count
            yield place, load.part(left, count)
    if left:
        yield index, load.part(0, left)


def group(
    program: Sequence[Instruction],
) -> tuple[list[list[Instruction]], list[list[Load]], list[Streaming]]:
    """Return, for each tile and the end, the instructions that stay and the LOADs due; and the
    tiles."""
    tiles = [item for item in program if isinstance(item, Streamed)]
    fixed: list[list[Instruction]] = [[] for _ in range(len(tiles) + 1)]
    loads: list[list[Load]] = [[] for _ in range(len(tiles) + 1)]
    index = 0
    for item in program:
        if isinstance(item, Load) and item.due >= 0:
            loads[item.due].append(item)
            continue
        fixed[index].append(item)
        index += isinstance(item, Streamed)
    return fixed, loads, tiles


def preparation(item: Instruction, config: ArrayConfig) -> int:
    """Return the cycles for which an instruction keeps the sequencer, memory keeping up."""
    fetch = item.fetch_cycles(config.cols) if isinstance(item, Tile) else 0
    return config.instruction_words + 1 + item.words + fetch
