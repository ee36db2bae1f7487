"""The load bus: takes payloads from the fetch port to tables, weights and the activation memory."""

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
        # Whatever the next words let start writes its results later than that.
        known = max(cycle + 1, fetch.ready()) + stream.least_delay()
        cycles: list[int] = []
        while address + len(cycles) < end:
            # The cycle in which the word could be taken, then the first one with its bank free.
            first = writes.free(address + len(cycles), max(cycle + 1, fetch.ready()))
            if cycles and first > known:
                break
            cycle = fetch.consume(1, first)
            cycles.append(cycle)
        stream.arrive(address, cycles)
        address += len(cycles)
    for first, count in fetch.runs(end - address, cycle + 1):
        stream.arrive(address, range(first, first + count))
        address += count
    return fetch.cycle
