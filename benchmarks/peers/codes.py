"""Codes of other methods, written from their papers and the code that was published with them.

Uniform ones with ranges by percentiles and logarithmic ones of base sqrt(2): RepQ-ViT (Li et al.,
ICCV 2023). Logarithmic ones of a base that is searched: AdaLog (Wu et al., ECCV 2024).
"""

from collections.abc import Iterable
from math import ceil, floor

import torch
from torch import Tensor

__all__ = ["AdaLog", "LogSqrt2", "Uniform", "percentiles"]

PERCENTILES = 0.999, 0.9999, 0.99999
"""Of the values, between which codes may lie: that one is taken with the least squared error."""

ADALOG_STEPS = 37
"""Parts of a factor of 2 of which AdaLog's bases are made, r in its paper."""

ADALOG_BASES = range(10, 10 + 129)
"""The numbers of such parts that a step may have, q in its paper: its code's 129 candidates."""

ADALOG_SAMPLES = 32
"""Samples of which AdaLog's bases are searched, as many as in its code."""


def percentiles(x: Tensor, shares: Iterable[float]) -> list[Tensor]:
    """Return percentiles of all values, between the two nearest ones, as ``torch.quantile``, of
    which these may be too many."""
    values, found = x.flatten().sort().values, []
    for share in shares:
        place = share * (len(values) - 1)
        below, above = values[floor(place)], values[ceil(place)]
        found.append(below + (above - below) * (place - floor(place)))
    return found


class Uniform:
    """Asymmetric uniform codes of some bits; of each channel of ``axis`` on its own if one is
    given. The range is found when the first values are seen."""

    def __init__(self, bits: int, axis: int | None = None) -> None:
        self.last, self.axis = (1 << bits) - 1, axis
        self.step: Tensor | None = None
        self.zero = torch.zeros(())

    def __call__(self, x: Tensor) -> Tensor:
        """Return values as their codes have them."""
        if self.step is None:
            self.step, self.zero = self.fit(x)
        return self.coded(x, self.step, self.zero)

    def coded(self, x: Tensor, step: Tensor, zero: Tensor) -> Tensor:
        """Return the nearest values of codes 0..last, ``step * (code - zero)``."""
        return (((x / step).round() + zero).clamp(0, self.last) - zero) * step

    def fit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step and the zero point, of all values or of each channel."""
        if self.axis is None:
            return self.fit_one(x)
        channels = x.movedim(self.axis, 0)
        pairs = [self.fit_one(channel) for channel in channels]
        shape = [1] * x.ndim
        shape[self.axis] = len(channels)
        steps, zeros = (torch.stack(part).reshape(shape) for part in zip(*pairs, strict=True))
        return steps, zeros

    def fit_one(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of all values, by the percentile of the least squared error."""
        found = []
        ends = percentiles(x, (*PERCENTILES, *(1 - share for share in PERCENTILES)))
        highs, lows = ends[: len(PERCENTILES)], ends[len(PERCENTILES) :]
        for low, high in zip(lows, highs, strict=True):
            step = (high - low).clamp(min=torch.finfo(x.dtype).tiny) / self.last
            zero = (-low / step).round()
            found.append(((self.coded(x, step, zero) - x).square().mean(), step, zero))
        _, step, zero = min(found, key=lambda item: float(item[0]))
        return step, zero


class LogSqrt2:
    """RepQ-ViT's codes of attention's weights: powers of sqrt(2) below a largest value, and 0 below
    the smallest one."""

    def __init__(self, bits: int) -> None:
        self.levels = 1 << bits
        self.largest: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return values as their codes have them."""
        if self.largest is None:
            self.largest = self.fit(x)
        return self.coded(x, self.largest)

    def coded(self, x: Tensor, largest: Tensor) -> Tensor:
        """Return ``largest * sqrt(2) ** -code``, 0 beyond the last code."""
        code = (-2 * (x / largest).log2()).round()
        values = largest * torch.exp2(-code.clamp(0, self.levels - 1) / 2)
        return torch.where(code >= self.levels, 0.0, values)

    def fit(self, x: Tensor) -> Tensor:
        """Return the largest value, by the percentile of the least squared error."""
        tops = percentiles(x, PERCENTILES)
        return min(tops, key=lambda top: float((self.coded(x, top) - x).square().mean()))


class AdaLog:
    """AdaLog's codes of attention's weights: powers of 2^(-q / 37) below 1, rounded to a table of
    one bit more, and 0 beyond the last code; q errs least at the product with the values."""

    def __init__(self, bits: int) -> None:
        self.levels = 1 << bits
        self.base: int | None = None

    def __call__(self, x: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
        """Return values (b, heads, t, t) as their codes have them; the base is found by ``values``
        (b, heads, t, d), by which they are multiplied, and the product that is ``wanted``, of the
        first samples."""
        if self.base is None:
            some, others, goal = (part[:ADALOG_SAMPLES] for part in (x, values, wanted))
            errors = {
                base: float((self.coded(some, base) @ others - goal).square().mean())
                for base in ADALOG_BASES
            }
            self.base = min(errors, key=errors.__getitem__)
        return self.coded(x, self.base)

    def coded(self, x: Tensor, base: int) -> Tensor:
        """Return ``2 ** -floor(code * q / r)`` times the table's factor for the rest."""
        code = (-x.log2() * ADALOG_STEPS / base).round()
        values = self.table(base)[code.clamp(0, self.levels - 1).long()]
        return torch.where(code >= self.levels, 0.0, values)

    def table(self, base: int) -> Tensor:
        """Return the value of each code (levels,)."""
        parts = torch.arange(self.levels) * base
        most = 2 * self.levels - 2
        factors = (torch.exp2(-(parts % ADALOG_STEPS) / ADALOG_STEPS) * most).round() / most
        return torch.exp2(-(parts // ADALOG_STEPS)) * factors
