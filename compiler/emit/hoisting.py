"""Prefetch: move LOADs ahead in the program to where the sequencer would otherwise be idle.

The sequencer prepares a tile while the one before streams. Where the LOADs of a tile make that take
longer than the stream, they go before earlier tiles, in parts if need be, but never before one that
still uses what they overwrite.
"""

from collections.abc import Iterator

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.steps import Step

__all__ = ["lag_after", "prefetch"]

MARGIN = 3
"""Tiles between the last user of a slot and the LOAD that overwrites it: so it rarely waits."""

REACH = 64
"""Tiles that a LOAD may move ahead at most."""

LEAST = 16
"""Payload words of a part of a LOAD at least, so that its instruction pays."""


def lag_after(user: int, tiles: int) -> int:
    """Return how many of ``tiles`` tiles may be unfinished once tile ``user`` has retired."""
    return LAG_FREE if user < 0 else min(tiles - 1 - user, LAG_FREE - 1)


def prefetch(steps: list[Step], config: ArrayConfig) -> list[Step]:
    """Return the steps with every LOAD before its ``due`` tile, or earlier where that hides it.

    A LOAD moves only if its tile is late, and only to tiles within ``REACH`` that have room, the
    nearest first: where the sequencer is never idle, moving would only delay the start. All other
    steps keep their order.
    """
    fixed, loads, tiles = group(steps)
    spare = [0] * len(fixed)
    for index in range(1, len(fixed)):
        work = sum(preparation(step, config) for step in (*fixed[index], *loads[index]))
        spare[index] = tiles[index - 1].stream_cycles - work
    moved: list[list[Step]] = [[] for _ in loads]
    for index in range(len(loads) - 1, -1, -1):
        for load in reversed(loads[index]):
            if spare[index] >= 0:
                moved[index].append(load)
                continue
            spare[index] += preparation(load, config)
            for place, part in divide(load, index, spare, config):
                spare[place] -= preparation(part, config)
                moved[place].append(part)
    result: list[Step] = []
    for index, (before, late) in enumerate(zip(fixed, moved, strict=True)):
        for load in late:
            load.fields["lag"] = lag_after(load.user, index)
        result += [*before[:-1], *late[::-1], *before[-1:]]
    return result


def divide(
    load: Step, index: int, spare: list[int], config: ArrayConfig
) -> Iterator[tuple[int, Step]]:
    """Yield parts of a LOAD of tile ``index``, the last words first, and the tiles to put them
    before.

    ``spare`` are each tile's idle cycles; what finds no room stays with its own tile.
    """
    left, overhead = load.words, config.instruction_words + 1
    first = max(1, index - REACH, load.user + MARGIN if load.user >= 0 else 0)
    for place in range(index - 1, first - 1, -1):
        count = min(left, spare[place] - overhead)
        if count and count >= min(left, LEAST):
            left -= count
            yield place, load.part(left, count)
    if left:
        yield index, load.part(0, left)


def group(steps: list[Step]) -> tuple[list[list[Step]], list[list[Step]], list[Step]]:
    """Return, for each tile and the end, the fixed steps and the LOADs due; and the tiles."""
    tiles = [step for step in steps if step.count]
    fixed: list[list[Step]] = [[] for _ in range(len(tiles) + 1)]
    loads: list[list[Step]] = [[] for _ in range(len(tiles) + 1)]
    index = 0
    for step in steps:
        if step.due >= 0:
            loads[step.due].append(step)
            continue
        fixed[index].append(step)
        index += bool(step.count)
    return fixed, loads, tiles


def preparation(step: Step, config: ArrayConfig) -> int:
    """Return the cycles for which a step keeps the sequencer, memory keeping up."""
    return config.instruction_words + 1 + step.words
