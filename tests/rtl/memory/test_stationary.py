"""Weights from memory: rows and columns of words, slices of them, in exactly so many cycles."""

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Signal

from nupes.arch.config import ArrayConfig
from nupes.rtl.memory.stationary import StationaryReader
from tests.rtl.bench import execute

CONFIGS = [ArrayConfig(4, 4, attention=True), ArrayConfig(4, 8, code_bits=5, attention=True),
           ArrayConfig(8, 4, code_bits=3, attention=True)]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("transposed", [0, 1])
def test_weights_are_words_of_the_memory(config: ArrayConfig, transposed: int) -> None:
    rng = np.random.default_rng(0)
    memory = rng.integers(0, 1 << config.code_bits, (64, config.lanes))
    size = config.rows if transposed else config.cols
    reader = StationaryReader(config)

    async def bench(context: Any, reset: Signal) -> None:
        for rows in (1, config.rows - 1, config.rows):
            part = int(rng.integers(config.lanes // size))
            address, step = int(rng.integers(8)), int(rng.integers(1, 4))
            for name, value in (
                ("start", 1), ("address", address), ("step", step), ("rows", rows),
                ("slice", part), ("transposed", transposed), ("slot", 1),
            ):  # fmt: skip
                context.set(getattr(reader, name), value)
            words, seen, cycle, previous = [], [], 0, 0
            while True:
                context.set(reader.memory.data, memory[previous].tolist())
                if context.get(reader.busy):
                    words.append((cycle, context.get(reader.memory.address)))
                previous = context.get(reader.memory.address) % 64
                if context.get(reader.weights.valid):
                    codes = [context.get(reader.weights.codes[c]) for c in range(config.cols)]
                    seen.append((cycle, context.get(reader.weights.row), codes))
                last = context.get(reader.last)
                await context.tick()
                context.set(reader.start, 0)
                cycle += 1
                if last:
                    break
            count = config.cols if transposed else rows
            assert words == [(1 + i, address + i * step) for i in range(count)]
            found = [memory[address + i * step][part * size : (part + 1) * size].tolist()
                     for i in range(count)]  # fmt: skip
            want = [list(row) for row in zip(*found, strict=True)] if transposed else found
            first = 2 + config.cols * transposed
            assert seen == [(first + i, i, want[i]) for i in range(rows)]
            for _ in range(int(rng.integers(3))):
                assert not context.get(reader.weights.valid)
                await context.tick()

    execute(reader, bench)
