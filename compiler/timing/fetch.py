"""The fetch port: when each word of the program can be consumed."""

from collections.abc import Iterator

from nupes.arch.config import ArrayConfig
from nupes.compiler.timing.progress import Progress

__all__ = ["FetchPort"]


class FetchPort:
    """The external memory's port and the fetch buffer.

    The memory delivers a burst accepted in cycle n from cycle ``n + latency`` on, one word per
    cycle, bursts in order.
    """

    def __init__(self, config: ArrayConfig, latency: int, progress: Progress) -> None:
        self.burst = config.burst
        self.ahead = config.fetch_depth // config.burst
        self.latency = latency
        self.progress = progress
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

    def ready(self) -> int:
        """Return the first cycle in which the next word could be consumed."""
        index, offset = divmod(self.word, self.burst)
        return max(self.cycle + 1, self.burst_arrival(index) + offset + 1)

    def together(self) -> int:
        """Return how many words of the burst of the next one are left: they come one after the
        other."""
        return self.burst - self.word % self.burst

    def consume(self, count: int, earliest: int) -> int:
        """Consume ``count`` words, the first not before ``earliest``; return the cycle of the last
        one.
        """
        wanted = max(self.cycle + 1, earliest)
        for first, words in self.runs(count, earliest):
            self.waited += first - wanted
            wanted = first + words
        return self.cycle

    def runs(self, count: int, earliest: int) -> Iterator[tuple[int, int]]:
        """Consume ``count`` words, the first not before ``earliest``; yield the first cycle and the
        words of each run that nothing holds up."""
        self.cycle = max(self.cycle, earliest - 1)
        while count:
            index, offset = divmod(self.word, self.burst)
            run = min(count, self.burst - offset)
            ready = self.burst_arrival(index) + offset + 1
            first = max(self.cycle + 1, ready)
            self.cycle = first + run - 1
            self.progress.note(first, self.cycle)
            self.word += run
            count -= run
            if offset + run == self.burst:
                self.popped.append(self.cycle)
            yield first, run
