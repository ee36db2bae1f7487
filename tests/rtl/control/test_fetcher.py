"""The fetcher, cycle by cycle against the counts that its docstring states."""

import random
from typing import Any

from amaranth.hdl import Signal
from hypothesis import given, settings
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.rtl.control.fetcher import Fetcher
from tests.rtl.bench import execute


def data(address: int) -> int:
    """Return the word at an address of the external memory."""
    return address * 0x9E3779B97F4A7C15 % 2**64


class Bench:
    """An external memory, a consumer, and the history of both."""

    def __init__(self, config: ArrayConfig, chance: random.Random, **rates: float) -> None:
        self.config, self.chance, self.rates = config, chance, rates
        self.fetcher = Fetcher(config)
        self.now = 0
        self.pending: list[int] = []  # addresses to come
        self.forget(0)

    def forget(self, length: int) -> None:
        """Start the history of a new run, of ``length`` words."""
        self.length = length
        self.accepts: list[int] = []
        self.arrivals: list[int] = []
        self.pops: list[int] = []
        self.received: list[int] = []

    async def cycle(self, context: Any, run: bool) -> None:
        """Check one cycle and take its transfers."""
        fetcher, config, now = self.fetcher, self.config, self.now

        def rolls(name: str) -> bool:
            return self.chance.random() < self.rates[name]

        context.set(fetcher.run, run)
        # What it is after the first cycle does not matter.
        context.set(fetcher.length, self.chance.randrange(2**32) if run else self.length)
        context.set(fetcher.request.ready, rolls("request"))
        arrives = bool(self.pending) and rolls("response")
        context.set(fetcher.response.valid, arrives)
        context.set(fetcher.response.payload, data(self.pending[0]) if arrives else 0)
        context.set(fetcher.words.ready, rolls("words"))
        requested = min(config.burst * len(self.accepts), self.length)
        taken = requested - len(self.pops)
        outstanding = -(-requested // config.burst) - len(self.arrivals) // config.burst
        outstanding = outstanding if len(self.arrivals) < requested else 0
        valid = context.get(fetcher.request.valid)
        if run:
            assert valid == (
                requested < self.length
                and outstanding < 2
                and taken <= config.fetch_depth - config.burst
            )
            assert context.get(fetcher.words.valid) == (len(self.arrivals) > len(self.pops))
        assert context.get(fetcher.response.ready)
        if valid and context.get(fetcher.request.ready):
            start = context.get(fetcher.request.payload.address)
            length = context.get(fetcher.request.payload.length)
            assert (start, length) == (requested, min(config.burst, self.length - requested))
            self.pending += range(start, start + length)
            self.accepts.append(now)
        if arrives:
            self.pending.pop(0)
            self.arrivals.append(now)
        if context.get(fetcher.words.valid) and context.get(fetcher.words.ready):
            self.pops.append(now)
            self.received.append(context.get(fetcher.words.payload))
        self.now += 1
        await context.tick()


RATE = st.sampled_from([0.1, 0.5, 0.9, 1])


@settings(max_examples=15, deadline=None)
@given(
    burst=st.sampled_from([1, 3, 4, 8]),
    bursts=st.integers(2, 4),
    request=RATE,
    response=RATE,
    words=RATE,
    most=st.sampled_from([1, 20, 1000]),
    seed=st.integers(0, 2**32),
)
def test_history(
    burst: int,
    bursts: int,
    request: float,
    response: float,
    words: float,
    most: int,
    seed: int,
) -> None:
    config = ArrayConfig(rows=2, cols=2, burst=burst, fetch_depth=burst * bursts)
    chance = random.Random(seed)
    bench = Bench(config, chance, request=request, response=response, words=words)

    async def body(context: Any, reset: Signal) -> None:
        for _ in range(3):
            bench.forget(chance.randint(1, most))
            await bench.cycle(context, run=False)
            for _ in range(chance.randint(1, 60)):
                await bench.cycle(context, run=True)
            assert bench.received == [data(i) for i in range(len(bench.received))]
            for _ in range(10000):
                if context.get(bench.fetcher.idle):
                    break
                await bench.cycle(context, run=False)
            assert not bench.pending
            assert context.get(bench.fetcher.idle)
            # Nothing more comes.
            for _ in range(3):
                await bench.cycle(context, run=False)
                assert not context.get(bench.fetcher.request.valid)
                assert not context.get(bench.fetcher.words.valid)

    execute(bench.fetcher, body)


def test_keeps_up_with_one_word_per_cycle() -> None:
    config = ArrayConfig(rows=2, cols=2, burst=8, fetch_depth=32)
    bench = Bench(config, random.Random(0), request=1, response=1, words=1)

    async def body(context: Any, reset: Signal) -> None:
        bench.forget(150)
        await bench.cycle(context, run=False)
        for _ in range(200):
            await bench.cycle(context, run=True)
        # Request in 1, first arrival in 2, first word in 3, then no gap to the end.
        assert bench.accepts[0] == 1
        assert bench.pops == list(range(3, 153))

    execute(bench.fetcher, body)


def test_an_offered_request_stays() -> None:
    config = ArrayConfig(rows=2, cols=2, burst=4, fetch_depth=8)
    fetcher = Fetcher(config)

    async def body(context: Any, reset: Signal) -> None:
        context.set(fetcher.length, 3)
        await context.tick()
        context.set(fetcher.run, 1)
        await context.tick()
        context.set(fetcher.run, 0)
        for _ in range(5):
            assert context.get(fetcher.request.valid)
            assert context.get(fetcher.request.payload.length) == 3
            assert not context.get(fetcher.idle)
            await context.tick()
        context.set(fetcher.request.ready, 1)
        await context.tick()
        assert not context.get(fetcher.request.valid)
        assert not context.get(fetcher.idle)

    execute(fetcher, body)
