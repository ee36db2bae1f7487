"""Exact cycles without simulation: the control of the hardware as recurrences over words, bursts
and tiles.

Every rule is one of docs/timing.md. Cycle 0 is the cycle of ``start``; the host takes every
result at once. Each resource that instructions occupy is a class of its own: the fetch port, the
load bus, the stream engine, the ports of the activation memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import LAG_FREE
from nupes.compiler.emit.instructions import End, Instruction, Load, Tile
from nupes.compiler.timing.fetch import FetchPort
from nupes.compiler.timing.load_bus import carry
from nupes.compiler.timing.ports import WritePorts
from nupes.compiler.timing.progress import Progress
from nupes.compiler.timing.stream import StreamEngine

__all__ = ["Timeline", "predict"]


@dataclass(frozen=True)
class Timeline:
    """When things happen: the run's cycles, each marked tile's first word, and for every tile the
    first and final issue, the dispatch, the cycles for which the sequencer waited for memory since
    the dispatch before, and the retirement. ``payload`` holds, for every instruction but the END,
    the last cycle of DECODE and the cycle of its last payload word (the same without payload).
    ``quiet`` is the longest time without progress, which the watchdog must survive.
    """

    cycles: int
    marks: tuple[int, ...]
    first_issue: tuple[int, ...]
    final_issue: tuple[int, ...]
    dispatch: tuple[int, ...]
    memory_wait: tuple[int, ...]
    retired: tuple[int, ...]
    payload: tuple[tuple[int, int], ...]
    quiet: int


def predict(
    program: Sequence[Instruction], config: ArrayConfig, latency: int = 20, rows: int = 1
) -> Timeline:
    """Return the exact timeline of a program for a memory of the given latency in cycles.

    With more ``rows`` than 1 it is that of an array which does not exist: its port has so many
    times the bits, a word of it carries so many payload words of a tile, and as much of an
    instruction. A LOAD still writes one entry a cycle.
    """
    instruction_words = -(-config.instruction_words // rows)
    progress, writes = Progress(), WritePorts()
    fetch, stream = FetchPort(config, latency, progress), StreamEngine(config, writes, progress)
    marked: list[int] = []
    waits = [0]
    payload: list[tuple[int, int]] = []
    dispatched = 0
    decode = 0
    for item in program:
        if item.follows:
            # Its weights may come in the cycle in which the tile before begins.
            decode = max(decode, stream.started(dispatched - 1) - 1)
        else:
            decode = fetch.consume(instruction_words, decode + 1) + 1
        if isinstance(item, Load):
            if item.lag != LAG_FREE and dispatched > item.lag:
                decode = max(decode, stream.retirement(dispatched - item.lag - 1) + 1)
            if item.fence:
                decode = max(decode, stream.settled())
            payload.append((decode, carry(item, fetch, writes, stream, decode)))
            decode = payload[-1][1]
            continue
        if isinstance(item, End):
            decode = max(decode, stream.settled())
            break
        if dispatched and not item.follows:
            decode = max(decode, stream.started(dispatched - 1) + 1)
        if isinstance(item, Tile) and item.weight_lag != LAG_FREE and dispatched > item.weight_lag:
            decode = max(decode, stream.retirement(dispatched - item.weight_lag - 1) + 1)
        decoded = decode
        if item.words:
            decode = fetch.consume(-(-item.words // rows), decode + 1)
        elif isinstance(item, Tile):
            decode += item.fetch_cycles(config.cols)
        payload.append((decoded, decode))
        stream.dispatch(item, max(decode, decoded + 1))
        waits.append(fetch.waited)
        if item.mark:
            marked.append(dispatched)
        dispatched += 1
    return Timeline(
        decode + 1,
        tuple(stream.first[index] for index in marked),
        tuple(stream.first),
        tuple(stream.final),
        tuple(seen for _, seen in stream.queue),
        tuple(after - before for before, after in pairwise(waits)),
        tuple(stream.retired),
        tuple(payload),
        progress.longest_gap(decode),
    )
