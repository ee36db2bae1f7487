"""Exact cycles without simulation: the control of the hardware as recurrences over words, bursts
and tiles.

Every rule is one of docs/hardware.md. Cycle 0 is the cycle of ``start``. The memory delivers a
burst accepted in cycle n from cycle ``n + latency`` on, one word per cycle, bursts in order; the
host takes every result at once.
"""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS, LAG_FREE, Destination, Opcode, plane_cycles
from nupes.compiler.emit.steps import Schedule, Step
from nupes.model.errors import SimulationError

__all__ = ["Timeline", "predict"]


@dataclass(frozen=True)
class Timeline:
    """When things happen: the run's cycles, each layer's first word, and for every tile the first
    and final issue, the dispatch, the cycles for which the sequencer waited for memory since
    the dispatch before, and the retirement. ``payload`` holds, for every step but the END, the last
    cycle of DECODE and the cycle of its last payload word (the same without payload).
    """

    cycles: int
    marks: tuple[int, ...]
    first_issue: tuple[int, ...]
    final_issue: tuple[int, ...]
    dispatch: tuple[int, ...]
    memory_wait: tuple[int, ...]
    retired: tuple[int, ...]
    payload: tuple[tuple[int, int], ...]


class Fetch:
    """The prefetcher: when each word of the program can be consumed."""

    def __init__(self, config: ArrayConfig, latency: int) -> None:
        self.burst = config.burst
        self.ahead = config.fetch_depth // config.burst
        self.latency = latency
        self.popped: list[int] = []  # cycle in which the final word of each burst was consumed
        self.arrival: list[int] = []  # cycle in which the first word of each burst arrives
        self.request = 0
        self.word = 0  # words consumed
        self.cycle = 0  # cycle in which the last one was
        self.waited = 0  # cycles in which the next word was wanted, but had not arrived

    def burst_arrival(self, index: int) -> int:
        """Return the cycle in which a burst's first word arrives, requesting bursts up to it."""
        while len(self.arrival) <= index:
            k = len(self.arrival)
            ready = self.request + 1
            if k >= 2:
                ready = max(ready, self.arrival[k - 2] + self.burst)
            if k >= self.ahead:
                ready = max(ready, self.popped[k - self.ahead] + 1)
            self.request = ready
            free = self.arrival[-1] + self.burst if k else 0
            self.arrival.append(max(ready + self.latency, free))
        return self.arrival[index]

    def consume(self, count: int, earliest: int) -> int:
        """Consume ``count`` words, the first not before ``earliest``; return the cycle of the last
        one.
        """
        cycle = max(self.cycle, earliest - 1)
        while count:
            index, offset = divmod(self.word, self.burst)
            run = min(count, self.burst - offset)
            ready = self.burst_arrival(index) + offset + 1
            self.waited += max(ready - (cycle + 1), 0)
            cycle = max(cycle + 1, ready) + run - 1
            self.word += run
            count -= run
            if offset + run == self.burst:
                self.popped.append(cycle)
        self.cycle = cycle
        return cycle


class Stream:
    """The stream engine: when each tile issues its words, and when it retires."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        # Dispatched steps, with the cycle from which the engine sees them.
        self.queue: list[tuple[Step, int]] = []
        self.first: list[int] = []
        self.final: list[int] = []
        self.retired: list[int] = []
        self.next_issue = 0  # earliest cycle for the next word
        self.written = np.full(config.act_depth, -1, np.int64)  # when each input word was written
        # Cycles in which results are written to each bank, increasing.
        self.busy: list[list[int]] = [[] for _ in range(BANKS)]
        self.chased: list[int] = []  # issues of the tile that chases the input, so far

    def dispatch(self, step: Step, cycle: int) -> None:
        """Add a tile that the engine sees from ``cycle`` on."""
        self.queue.append((step, cycle))
        self.advance()

    def advance(self) -> None:
        """Issue every word whose time is known."""
        while len(self.final) < len(self.queue):
            index = len(self.final)
            step, seen = self.queue[index]
            if len(self.first) == index and not self.chased:
                self.next_issue = max(self.next_issue, self.accept(step, index, seen) + 1)
            if step.chase < 0:
                self.issue(step)
            elif not self.follow(step):
                return

    def accept(self, step: Step, index: int, seen: int) -> int:
        """Return the cycle in which the engine accepts a tile: seen, its turn, its lag met."""
        cycle = max(seen, self.final[-1] if index else 0)
        lag = 0 if step.fields["opcode"] == Opcode.POOL else step.fields["lag"]
        if lag != LAG_FREE and index > lag:
            cycle = max(cycle, self.retired[index - lag - 1] + 1)
        return cycle

    def issue(self, step: Step) -> None:
        """Issue a whole tile at its pace."""
        distance = step.per_pixel + step.pace - 1
        start = self.next_issue
        self.first.append(start)
        last = start + step.per_pixel - 1
        if step.writes and not step.to_host:
            for pixel in range(step.count):
                self.write(step, pixel, last + distance * pixel)
        self.finish(step, last + distance * (step.count - 1))

    def follow(self, step: Step) -> bool:
        """Issue the words of a tile that chases the input, as far as it is known to be written.

        Return whether that is all of them.
        """
        while len(self.chased) < step.count:
            written = int(self.written[step.chase + len(self.chased)])
            if written < 0:
                return False
            cycle = max(self.next_issue, written + 1)
            if not self.chased:
                self.first.append(cycle)
            if step.writes and not step.to_host:
                self.write(step, len(self.chased), cycle)
            self.chased.append(cycle)
            self.next_issue = cycle + step.pace
        self.finish(step, self.chased[-1])
        self.chased = []
        return True

    def write(self, step: Step, pixel: int, issue: int) -> None:
        """Note when the result of a pixel, whose last word is issued in ``issue``, is written."""
        cycle = issue + self.delay(step)
        pairs, single = divmod(step.writes, BANKS)
        for busy in self.busy:
            busy += range(cycle, cycle + pairs)
        if single:
            self.busy[(step.fields["out_address"] + pixel) % BANKS].append(cycle + pairs)

    def delay(self, step: Step) -> int:
        """Return the cycles from the issue of a pixel's last word to its first write."""
        if step.fields["opcode"] == Opcode.POOL:
            return self.config.issue_to_pool + 1
        return self.config.issue_to_write

    def finish(self, step: Step, final: int) -> None:
        """Note the final word of a tile."""
        self.final.append(final)
        self.retired.append(final + self.delay(step) + plane_cycles(step.writes) - 1)
        self.next_issue = final + step.pace

    def free_cycle(self, address: int, cycle: int) -> int:
        """Return the first cycle from ``cycle`` on in which no result is written to the bank of
        ``address``.
        """
        busy = self.busy[address % BANKS]
        position = bisect_left(busy, cycle)
        while position < len(busy) and busy[position] == cycle:
            cycle += 1
            position += 1
        return cycle


def predict(plan: Schedule, config: ArrayConfig, latency: int = 20) -> Timeline:
    """Return the exact timeline of a schedule for a memory of the given latency in cycles."""
    fetch, stream = Fetch(config, latency), Stream(config)
    marked: list[int] = []
    waits = [0]
    payload: list[tuple[int, int]] = []
    dispatched = 0
    decode = 0
    for step in plan.steps:
        opcode = step.fields["opcode"]
        decode = fetch.consume(config.instruction_words, decode + 1) + 1
        if opcode == Opcode.LOAD:
            lag = step.fields["lag"]
            if lag != LAG_FREE and dispatched - lag > 0:
                decode = max(decode, stream.retired[dispatched - lag - 1] + 1)
            payload.append((decode, load(step, fetch, stream, decode)))
            decode = payload[-1][1]
            continue
        if opcode == Opcode.END:
            if dispatched:
                decode = max(decode, stream.retired[-1] + 1)
            hosts = [i for i, (item, _) in enumerate(stream.queue) if item.to_host]
            if hosts:
                decode = max(decode, stream.retired[hosts[-1]] + 2)
            break
        if dispatched:
            if len(stream.first) < dispatched:
                raise SimulationError("schedule would wait forever: a tile precedes its input")
            decode = max(decode, stream.first[dispatched - 1] + 1)
        decoded = decode
        if step.words:
            decode = fetch.consume(step.words, decode + 1)
        payload.append((decoded, decode))
        stream.dispatch(step, decode + 1)
        waits.append(fetch.waited)
        if step.fields["mark"]:
            marked.append(dispatched)
        dispatched += 1
    marks = tuple(stream.first[index] for index in marked)
    return Timeline(
        decode + 1,
        marks,
        tuple(stream.first),
        tuple(stream.final),
        tuple(seen for _, seen in stream.queue),
        tuple(after - before for before, after in pairwise(waits)),
        tuple(stream.retired),
        tuple(payload),
    )


def load(step: Step, fetch: Fetch, stream: Stream, decode: int) -> int:
    """Consume a LOAD's payload; return the cycle of its last word.

    A bank that takes a result in a cycle does not take a word of the LOAD.
    """
    if step.fields["destination"] != Destination.ACTIVATION:
        return fetch.consume(step.words, decode + 1)
    cycle = decode
    for address in range(step.fields["address"], step.fields["address"] + step.words):
        # The cycle in which the word could be taken, then the first one in which its bank is free.
        index, offset = divmod(fetch.word, fetch.burst)
        cycle = max(cycle + 1, fetch.cycle + 1, fetch.burst_arrival(index) + offset + 1)
        cycle = stream.free_cycle(address, cycle)
        fetch.consume(1, cycle)
        stream.written[address] = cycle
        stream.advance()
    return cycle
