"""The load bus: takes payloads from the fetch port to tables, weights and the activation memory."""

import numpy as np

from nupes.arch.isa import Destination
from nupes.compiler.emit.instructions import Load
from nupes.compiler.timing.fetch import FetchPort
from nupes.compiler.timing.ports import WritePorts
from nupes.compiler.timing.stream import StreamEngine

__all__ = ["carry"]


def carry(
    load: Load, fetch: FetchPort, writes: WritePorts, stream: StreamEngine, decode: int
) -> int:
    """Consume a LOAD's payload; return the cycle of its last word.

    A bank that takes a result in a cycle does not take a word of the LOAD.
    """
    if load.destination != Destination.ACTIVATION:
        return fetch.consume(load.words, decode + 1)
    stream.point(load.address)
    cycle, address, end = decode, load.address, load.address + load.words
    while address < end and not (writes.last() <= cycle and stream.stores_nothing()):
        # The cycle in which the word could be taken, then the first one in which its bank is free.
        cycle = max(cycle + 1, fetch.ready())
        # What nobody waits for may come until the next result is written.
        count = 0 if stream.waits() else min(writes.next(cycle) - cycle, fetch.together())
        count = max(1, min(int(count), end - address))
        if count == 1:
            cycle = writes.free(address, cycle)
        fetch.consume(count, cycle)
        stream.arrive(address, np.arange(cycle, cycle + count))
        address, cycle = address + count, cycle + count - 1
    for first, count in fetch.runs(end - address, cycle + 1):
        stream.arrive(address, np.arange(first, first + count))
        address += count
    return fetch.cycle
