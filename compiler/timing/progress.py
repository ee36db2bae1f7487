"""Progress: what the watchdog counts, and the longest time without any."""

__all__ = ["Progress"]


class Progress:
    """Spans of cycles in which a word is consumed, issued or written, in any order.

    Within a span there may be a few cycles between two such events: at most a pixel's ``pace``.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def note(self, first: int, last: int) -> None:
        """Note progress from cycle ``first`` to cycle ``last``."""
        spans = self.spans
        if spans:
            begun, reached = spans[-1]
            if begun <= first <= reached + 1:
                if last > reached:
                    spans[-1] = begun, last
                return
        spans.append((first, last))

    def longest_gap(self, end: int) -> int:
        """Return the most cycles in a row without progress between the start, cycle 0, and the last
        cycle of DECODE of the END, ``end``."""
        gap = reached = 0
        for first, last in [*sorted(self.spans), (end, end)]:
            gap, reached = max(gap, first - reached - 1), max(reached, last)
        return gap
