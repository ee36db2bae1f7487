"""Prefetch: move LOADs ahead in the program to where the sequencer would otherwise be idle.

The sequencer prepares a tile while the one before streams. Where the LOADs of a tile make that take
longer than the stream, they go before an earlier tile, but never before one that still uses what
they overwrite.
"""

from nupes.compiler.steps import Step
from nupes.rtl.config import ArrayConfig
from nupes.rtl.isa import LAG_FREE

__all__ = ["lag_after", "prefetch"]

MARGIN = 3
"""Tiles between the last user of a slot and the LOAD that overwrites it: so it rarely waits."""


def lag_after(user: int, tiles: int) -> int:
    """Return how many of ``tiles`` tiles may be unfinished once tile ``user`` has retired."""
    return LAG_FREE if user < 0 else min(tiles - 1 - user, LAG_FREE - 1)


def prefetch(steps: list[Step], config: ArrayConfig) -> list[Step]:
    """Return the steps with every LOAD as late as it may be and as early as it should be.

    A LOAD with a ``due`` tile may move; all other steps keep their order.
    """
    fixed, loads, tiles = group(steps)
    for index in range(len(tiles) - 1, 0, -1):
        budget = tiles[index - 1].stream_cycles
        work = sum(preparation(step, config) for step in fixed[index])
        kept: list[Step] = []
        for load in reversed(loads[index]):
            cost = preparation(load, config)
            in_use = load.user >= 0 and load.user > index - 1 - MARGIN
            if work + cost <= budget or in_use:
                kept.append(load)
                work += cost
            else:
                loads[index - 1].append(load)
        loads[index] = kept[::-1]
    result: list[Step] = []
    for index, (before, moved) in enumerate(zip(fixed, loads, strict=True)):
        for load in moved:
            load.fields["lag"] = lag_after(load.user, index)
        result += [*before[:-1], *moved, *before[-1:]]
    return result


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
