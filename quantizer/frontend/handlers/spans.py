"""Spans: the windows of a pool along one axis, in runs of one size, one step and one divisor."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["Run", "Span", "adaptive_spans", "runs_of", "window_spans"]


@dataclass(frozen=True)
class Span:
    """What a window covers of the map along one axis, from ``start`` on, and its divisor."""

    start: int
    size: int
    divisor: int


@dataclass(frozen=True)
class Run:
    """``count`` windows of one size and divisor, ``step`` apart, from window ``first`` on."""

    first: int
    count: int
    step: int
    span: Span

    def padding(self, size: int) -> tuple[int, int]:
        """Return the padding, negative, of an axis of some size with which a pool has just these
        windows."""
        end = self.span.start + (self.count - 1) * self.step + self.span.size
        return -self.span.start, end - size


def window_spans(
    size: int, count: int, kernel: int, stride: int, padding: int, include_padding: bool
) -> list[Span]:
    """Return the windows of a pool over an axis: its divisor counts what a window covers of the
    map, or of the map and its padding."""
    spans = []
    for start in range(-padding, count * stride - padding, stride):
        end = min(start + kernel, size + padding)
        first, last = max(start, 0), min(end, size)
        spans.append(Span(first, last - first, (end - start) if include_padding else last - first))
    return spans


def adaptive_spans(size: int, count: int) -> list[Span]:
    """Return the windows of an adaptive pool: window i reaches from ``floor(i * size / count)`` to
    ``ceil((i + 1) * size / count)``."""
    ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    return [Span(start, end - start, end - start) for start, end in ends]


def runs_of(spans: Iterable[Span]) -> list[Run]:
    """Return windows as few runs."""
    runs: list[Run] = []
    for index, span in enumerate(spans):
        run = runs[-1] if runs else None
        if run and (run.span.size, run.span.divisor) == (span.size, span.divisor):
            step = span.start - run.span.start - (run.count - 1) * run.step
            if step > 0 and (run.count == 1 or step == run.step):
                runs[-1] = replace(run, count=run.count + 1, step=step)
                continue
        runs.append(Run(index, 1, 1, span))
    return runs
