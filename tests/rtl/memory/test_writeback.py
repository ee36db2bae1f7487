"""The write-back and the residual reader, cycle by cycle."""

import random
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import plane_cycles
from nupes.rtl.memory.residual_reader import ResidualReader
from nupes.rtl.memory.writeback import Writeback
from tests.rtl.bench import execute

CONFIGS = [
    ArrayConfig(rows=2, cols=2, act_depth=64, code_bits=2),  # the most planes, the least time
    ArrayConfig(rows=4, cols=2, act_depth=64, code_bits=3),
    ArrayConfig(rows=2, cols=4, act_depth=64, code_bits=8),
    ArrayConfig(rows=6, cols=3, act_depth=64, activation_level_bits=4),
    ArrayConfig(rows=2, cols=2, act_depth=64, code_bits=2, products=True),  # read at once
    ArrayConfig(rows=4, cols=2, act_depth=64, code_bits=3, products=True),
]


@settings(max_examples=20, deadline=None)
@given(
    config=st.sampled_from(CONFIGS),
    seed=st.integers(0, 2**32),
    taking=st.sampled_from([0.1, 0.6, 1]),
)
def test_writes(config: ArrayConfig, seed: int, taking: float) -> None:
    chance, writeback = random.Random(seed), Writeback(config)
    slices, bits = config.lanes // config.cols, config.code_bits
    cycles = 60
    inputs: list[dict[str, Any]] = []
    # By cycle and port: address, mask, codes.
    writes: dict[tuple[int, int], tuple[int, int, list[int]]] = {}
    retires: list[int] = []
    hosted: list[tuple[int, int]] = []  # cycle from which the result is there, value
    now = 1
    while now < cycles:
        kind = chance.choice(["none", "dry", "store", "host", "pool"])
        if kind == "none" or len(hosted) == config.result_depth:
            now += 1
            continue
        end, planes = chance.randrange(2), chance.randint(1, config.planes)
        values = [chance.getrandbits(config.joined_bits) for _ in range(config.lanes)]
        address, step = chance.randrange(64), chance.randrange(64)
        part = chance.randrange(slices)
        row: dict[str, Any] = {"now": now, "address": address, "plane_step": step, "slice": part}
        row |= {"kind": kind, "values": values, "end": end}
        row |= {"planes": chance.randrange(8) if kind == "host" else planes}
        inputs.append(row)
        hold = plane_cycles(planes) if kind in ("store", "pool") else 1
        if kind == "host":
            value = sum(item << (16 * i) for i, item in enumerate(values[: config.cols]))
            hosted.append((now + 2, value))
        elif kind != "dry":
            lanes = values if kind == "pool" else values[: config.cols] * slices
            mask = 2**slices - 1 if kind == "pool" else 1 << part
            for i in range(planes):
                digits = [item >> (bits * i) & (2**bits - 1) for item in lanes]
                writes[now + 1 + i // 2, i % 2] = (address + i * step) % 64, mask, digits
        if end:
            retires.append(now + hold)
        now += hold

    async def bench(context: Any, reset: Signal) -> None:
        received: list[int] = []
        by_cycle = {row["now"]: row for row in inputs}
        control = writeback.control
        for now in range(cycles + config.planes + 3):
            ahead, row = by_cycle.get(now + 1), by_cycle.get(now)
            # The place is known one cycle before the result at the latest.
            context.set(writeback.outputs.valid, ahead is not None and ahead["kind"] != "dry")
            if ahead is not None:
                for name in ("address", "plane_step", "planes", "slice"):
                    context.set(getattr(writeback.outputs.payload, name), ahead[name])
            kind, end = (row["kind"], row["end"]) if row is not None else ("none", 0)
            array, pool = kind in ("dry", "store", "host"), kind == "pool"
            context.set(control.valid, array)
            context.set(control.last, kind in ("store", "host"))
            context.set(control.end, array and end)
            context.set(control.host, kind == "host")
            context.set(writeback.pool_valid, pool)
            context.set(writeback.pool_end, pool and end)
            if row is not None:
                context.set(writeback.results, row["values"][: config.cols])
                context.set(writeback.pool_joined, row["values"])
            context.set(writeback.result.ready, chance.random() < taking)

            for number, write in enumerate(writeback.write):
                assert context.get(write.valid) == ((now, number) in writes)
                if (now, number) in writes:
                    seen = (
                        context.get(write.address),
                        context.get(write.mask),
                        [*context.get(write.data)],
                    )
                    assert seen == writes[now, number]
            assert context.get(writeback.retire) == (now in retires)
            present = sum(cycle <= now for cycle, _ in hosted) - len(received)
            assert context.get(writeback.result.valid) == (present > 0)
            assert context.get(writeback.results_empty) == (present == 0)
            taken = present > 0 and context.get(writeback.result.ready)
            assert context.get(writeback.result_taken) == taken
            if taken:
                received.append(context.get(writeback.result.payload))
            await context.tick()
        assert received == [value for _, value in hosted][: len(received)]

    execute(writeback, bench)


@settings(max_examples=20, deadline=None)
@given(config=st.sampled_from(CONFIGS), seed=st.integers(0, 2**32))
def test_residuals(config: ArrayConfig, seed: int) -> None:
    chance, reader = random.Random(seed), ResidualReader(config)
    memory = [chance.getrandbits(config.word_bits) for _ in range(64)]
    slices, bits = config.lanes // config.cols, config.code_bits
    cycles = 80
    requests: dict[int, dict[str, int]] = {}
    joined: dict[int, list[int]] = {}
    now = 0
    while now < cycles:
        planes, part = chance.randint(0, config.planes), chance.randrange(slices)
        address, step = chance.randrange(2**20), chance.randrange(2**20)
        requests[now] = {"address": address, "plane_step": step, "planes": planes, "slice": part}
        words = [memory[(address + i * step) % 64] for i in range(planes)]
        joined[now + config.issue_to_residual] = [
            sum(
                (word >> (bits * (part * config.cols + lane)) & (2**bits - 1)) << (bits * i)
                for i, word in enumerate(words)
            )
            for lane in range(config.cols)
        ]
        now += plane_cycles(planes) + chance.choice([0, 0, 1, 5])

    async def bench(context: Any, reset: Signal) -> None:
        addresses = [0] * len(reader.memory)
        for now in range(cycles + config.issue_to_psum + 8):
            for port, address in zip(reader.memory, addresses, strict=True):
                context.set(port.data.as_value(), memory[address])
            context.set(reader.requests.valid, now in requests)
            for name, value in requests.get(now, {}).items():
                context.set(getattr(reader.requests.payload, name), value)
            addresses = [context.get(port.address) for port in reader.memory]
            if now in joined:
                assert [*context.get(reader.joined)] == joined[now]
            await context.tick()

    execute(reader, bench)
