"""Programs assembled by hand, and their run on the accelerator in the Python simulator."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Signal

from nupes.arch.config import ArrayConfig
from nupes.arch.encoding import pack_instruction
from nupes.arch.isa import (
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    LAG_FREE,
    Destination,
    Opcode,
    Status,
    entry_bits,
    pack,
)
from nupes.rtl.accelerator import Accelerator
from tests.rtl.bench import execute
from tests.rtl.testbench import signed

__all__ = ["Outcome", "Program", "Stalls", "run"]

LAYER = {
    "step_x": 1,
    "stride_x": 1,
    "stride_y": 1,
    "kernel_w": 1,
    "kernel_h": 1,
    "planes": 1,
    "pace": 1,
    "out_step": 1,
    "out_planes": 1,
}
"""A descriptor's fields that are rarely 0."""


class Program:
    """A list of port words that grows instruction by instruction."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.words: list[int] = []

    def instruction(self, opcode: Opcode, fields: dict[str, int]) -> None:
        """Append one instruction."""
        raw, bits = pack_instruction({"opcode": opcode, **fields}), self.config.port_bits
        for index in range(self.config.instruction_words):
            self.words.append(raw >> (index * bits) & ((1 << bits) - 1))

    def load(
        self, destination: Destination, address: int, payload: Sequence[int], lag: int = 0
    ) -> None:
        """Append a LOAD of signed or unsigned entries."""
        fields = {"destination": destination, "address": address, "count": len(payload), "lag": lag}
        self.instruction(Opcode.LOAD, fields)
        self.words += [int(entry) % (1 << self.config.port_bits) for entry in payload]

    def layer(self, slot: int, lag: int = 0, **fields: int) -> None:
        """Append the LOAD of a descriptor."""
        raw = pack(DESCRIPTOR, LAYER | fields)
        words = [raw >> (64 * i) & (2**64 - 1) for i in range(DESCRIPTOR_WORDS)]
        address = slot << entry_bits(Destination.DESCRIPTOR, self.config)
        self.load(Destination.DESCRIPTOR, address, words, lag)

    def codes(self, values: Iterable[int]) -> int:
        """Return a word of codes, the first in the low bits."""
        return sum(int(code) << (self.config.code_bits * i) for i, code in enumerate(values))

    def tile(
        self,
        rows: Sequence[Sequence[int]],
        masks: Sequence[int] | None = None,
        **fields: int,
    ) -> None:
        """Append a TILE (or MULTIPLY, an ``opcode`` among the fields); ``rows`` are weight codes of
        all tiles of its run, two lists of digits for each if they are joined, the lower ones first;
        ``masks`` a word of bits for each of them."""
        fields = {"first": 1, "last": 1, "masked": int(masks is not None)} | fields
        opcode = Opcode(fields.pop("opcode", Opcode.TILE))
        each = 1 + fields.get("weights_joined", 0)
        tiles = fields.get("more", 0) + 1
        self.instruction(opcode, {"rows": len(rows) // (tiles * each), **fields})
        for index in range(len(rows) // each):
            self.words += [masks[index]] if masks is not None else []
            self.words += [self.codes(row) for row in rows[index * each : (index + 1) * each]]

    def pool(self, **fields: int) -> None:
        """Append a POOL."""
        self.instruction(Opcode.POOL, fields)

    def end(self) -> list[int]:
        """Append END; return the words."""
        self.instruction(Opcode.END, {"lag": LAG_FREE})
        return self.words


@dataclass(frozen=True)
class Stalls:
    """How often each outside stream makes the accelerator wait, 0 to 1, and the bursts' latency."""

    request: float = 0
    response: float = 0
    result: float = 0
    latency: int = 1
    seed: int = 0


@dataclass
class Outcome:
    """What a run did: cycles count from ``start`` to ``done``."""

    status: Status
    cycles: int
    results: list[list[int]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    outstanding: int = 0


def run(
    config: ArrayConfig,
    programs: Sequence[Sequence[int]],
    stalls: Stalls = Stalls(),
    limit: int = 20000,
    reset_after: int | None = None,
) -> list[Outcome]:
    """Run programs one after the other on one accelerator; see ``Outcome``.

    With ``reset_after`` the first program is cut by a reset of accelerator and memory after so many
    cycles, and has no outcome.
    """
    accelerator = Accelerator(config)
    outcomes: list[Outcome] = []

    async def bench(context: Any, reset: Signal) -> None:
        request, response = accelerator.request, accelerator.response
        result, chance = accelerator.result, random.Random(stalls.seed)
        pending: list[tuple[int, int]] = []  # (cycle from which it may arrive, word address)
        bursts: list[int] = []  # words to come of each outstanding burst
        now = 0

        async def cycle(memory: Sequence[int], outcome: Outcome) -> None:
            nonlocal now
            arrives = bool(pending) and pending[0][0] <= now and chance.random() >= stalls.response
            context.set(response.valid, arrives)
            if arrives:
                context.set(response.payload, memory[pending[0][1]])  # nothing is read beyond END
            context.set(request.ready, chance.random() >= stalls.request)
            context.set(result.ready, chance.random() >= stalls.result)
            if context.get(result.valid) and context.get(result.ready):
                raw = context.get(result.payload)
                outcome.results.append([signed(raw >> (16 * i), 16) for i in range(config.cols)])
            if context.get(request.valid) and context.get(request.ready):
                length = context.get(request.payload.length)
                first = context.get(request.payload.address)
                bursts.append(length)
                outcome.outstanding = max(outcome.outstanding, len(bursts))
                pending.extend((now + stalls.latency, first + i) for i in range(length))
            if arrives:
                pending.pop(0)
                bursts[0] -= 1
                if bursts[0] == 0:
                    bursts.pop(0)
            await context.tick()
            now += 1

        for number, memory in enumerate(programs):
            outcome = Outcome(Status.RUNNING, 0)
            for _ in range(limit):
                if context.get(accelerator.idle):
                    break
                await cycle(memory, Outcome(Status.RUNNING, 0))
            assert context.get(accelerator.idle)
            assert not bursts
            context.set(accelerator.start, 1)
            context.set(accelerator.length, len(memory))
            while not context.get(accelerator.done) and outcome.cycles < limit:
                if context.get(accelerator.mark):
                    outcome.marks.append(outcome.cycles)
                await cycle(memory, outcome)
                context.set(accelerator.start, 0)
                context.set(accelerator.length, 0)
                outcome.cycles += 1
                if number == 0 and outcome.cycles == reset_after:
                    break
            if number == 0 and reset_after is not None:
                context.set(reset, 1)
                await context.tick()
                context.set(reset, 0)
                pending.clear()
                bursts.clear()
                continue
            outcome.status = Status(context.get(accelerator.status))
            outcomes.append(outcome)

    execute(accelerator, bench)
    return outcomes
