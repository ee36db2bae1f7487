"""Spans of pools: PyTorch's windows, in runs that give them back."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nupes.quantizer.frontend.handlers.spans import Span, adaptive_spans, runs_of, window_spans


def means(spans: list[Span], row: Tensor) -> Tensor:
    """Return the mean of each window of a row."""
    return torch.stack([row[s.start : s.start + s.size].sum() / s.divisor for s in spans])


def check_runs(spans: list[Span], size: int) -> None:
    """Compare the windows of the runs, and of pools with their padding, with the spans."""
    found = []
    for run in runs_of(spans):
        before, after = run.padding(size)
        assert run.first == len(found)
        assert min(-before, -after) >= 0
        assert size + before + after == (run.count - 1) * run.step + run.span.size
        starts = [run.span.start + index * run.step for index in range(run.count)]
        found += [Span(start, run.span.size, run.span.divisor) for start in starts]
    assert found == spans


@given(
    st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_windows(
    size: int, kernel: int, stride: int, padding: int, ceil: bool, include: bool
) -> None:
    assume(padding <= kernel // 2 and kernel <= size + 2 * padding)
    row = torch.arange(1.0, size + 1, dtype=torch.float64)
    expected = F.avg_pool1d(row[None, None], kernel, stride, padding, ceil, include)[0, 0]
    spans = window_spans(size, len(expected), kernel, stride, padding, include)
    torch.testing.assert_close(means(spans, row), expected)
    check_runs(spans, size)


@given(st.integers(1, 20), st.integers(1, 20))
def test_adaptive_windows(size: int, count: int) -> None:
    row = torch.arange(1.0, size + 1, dtype=torch.float64)
    spans = adaptive_spans(size, count)
    torch.testing.assert_close(
        means(spans, row), F.adaptive_avg_pool1d(row[None, None], count)[0, 0]
    )
    check_runs(spans, size)
