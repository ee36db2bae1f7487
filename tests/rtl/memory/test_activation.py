"""The activation memory: every port in every cycle, whichever bank a word lies in."""

import random
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.rtl.memory.activation import ActivationMemory
from tests.rtl.bench import execute

CONFIGS = [
    ArrayConfig(rows=2, cols=2, act_depth=16, code_bits=3),
    ArrayConfig(rows=4, cols=2, act_depth=19, code_bits=2),  # two slices, an odd depth
    ArrayConfig(rows=2, cols=2, act_depth=16, mac="uniform"),  # one word of the stream in a cycle
]


def pair(chance: random.Random, depth: int) -> tuple[int, int]:
    """Return an even and an odd address, in any order."""
    even, odd = chance.randrange(0, depth, 2), chance.randrange(1, depth, 2)
    return chance.choice([(even, odd), (odd, even)])


@settings(max_examples=20, deadline=None)
@given(config=st.sampled_from(CONFIGS), seed=st.integers(0, 2**32))
def test_reads_and_writes(config: ArrayConfig, seed: int) -> None:
    chance, memory = random.Random(seed), ActivationMemory(config)
    bits = config.cols * config.code_bits
    content = [0] * config.act_depth

    async def bench(context: Any, reset: Signal) -> None:
        expected: list[int] = []
        streams = [memory.stream, memory.second] if config.reads_pairs else [memory.stream]
        reads = [*streams, *memory.residual]
        for _ in range(100):
            for port, word in zip(reads, expected, strict=False):
                assert context.get(port.data.as_value()) == word
            addresses = [
                *pair(chance, config.act_depth)[: len(streams)],
                *pair(chance, config.act_depth),
            ]
            for port, address in zip(reads, addresses, strict=True):
                context.set(port.address, address)
            expected = [content[address] for address in addresses]

            busy = [False, False]
            # A second plane comes with a first one.
            count = chance.randint(0, 2)
            places = pair(chance, config.act_depth)
            for number, (port, address) in enumerate(zip(memory.write, places, strict=True)):
                mask = chance.randrange(1 << len(port.mask))
                word = chance.getrandbits(config.word_bits)
                context.set(port.valid, number < count)
                context.set(port.address, address)
                context.set(port.mask, mask)
                context.set(port.data.as_value(), word)
                if number < count:
                    busy[address % 2] = True
                    keep = sum((~mask >> i & 1) * ((1 << bits) - 1) << bits * i for i in range(8))
                    content[address] = content[address] & keep | word & ~keep

            address = chance.randrange(config.act_depth)
            destination = chance.choice([Destination.ACTIVATION, Destination.MAP])
            valid, word = not busy[address % 2], chance.getrandbits(config.word_bits)
            context.set(memory.load.valid, valid)
            context.set(memory.load.destination, destination)
            context.set(memory.load.address, address)
            context.set(memory.load.data, word)
            if valid and destination == Destination.ACTIVATION:
                content[address] = word
            assert context.get(memory.write_busy) == busy[0] | busy[1] << 1
            await context.tick()

    execute(memory, bench)
