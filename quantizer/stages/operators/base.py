"""What the quantizer must know of an operator; each kind says it in a file of its own."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.operators import Operator, Padding
from nupes.quantizer.codes.decisions import WeightCode

__all__ = ["Beginning", "StageOperator", "Tie", "add_padding", "column", "pad_map"]

Tie = tuple[np.ndarray, np.ndarray]
"""Channels, and as many others that hold the same quantity."""


class Beginning(NamedTuple):
    """How a stage begins: ``gain * operator(sources) + bias``, both (n,) or one number for all."""

    op: "StageOperator"
    gain: np.ndarray | float = 1.0
    bias: np.ndarray | float = 0.0


class StageOperator:
    """An operator of a stage: from one or several maps to one, before gain, bias and function."""

    accumulates: ClassVar[bool] = True
    """Whether it gives sums, which a gain, a bias, a residual and a function may follow; else it
    gives codes of its sources as they are."""

    copies: ClassVar[bool] = False
    """Whether each result is a value of a source, or 0."""

    takes_residual: ClassVar[bool] = True
    """Whether a stored tensor may be added to what it gives: hardware reads one beside the first
    source."""

    reads_wide: ClassVar[bool] = False
    """Whether its source may be wide, 16-bit results as they are."""

    matrix: ClassVar[int | None] = None
    """The source that stands where weights do, by number, if there is one."""

    exact: ClassVar[bool] = False
    """Whether ``y`` is the accumulator itself, in its unit."""

    tokens: ClassVar[bool] = False
    """Whether what it gives has been through the token stage, which rounds."""

    most_read: ClassVar[int | None] = None
    """How many of its sources the integer operator reads, if not all."""

    code_groups: ClassVar[int] = 0
    """Into how many groups its sources are dealt, in turn, whose tensors share one code: sums of
    products have one unit; 0 where sources share nothing."""

    least_bits: ClassVar[int] = 0
    """How many bits its sources want at least, whatever the scheme."""

    any_gain: ClassVar[bool] = False
    """Whether a gain that follows may be negative."""

    gain_scales: ClassVar[bool] = False
    """Whether the gain takes up factors of the result's channels, which are tied to none then, and
    ``kept_factors``."""

    @property
    def least_scale(self) -> float:
        """The real value of one unit of its source, at least: with smaller ones its integers do
        not say what it is."""
        return 0.0

    def takes_part(self, index: int) -> bool:
        """Whether a source, by number, may be some channels of a tensor, wherever they begin:
        hardware reads others from the beginning of a word on."""
        return True

    @classmethod
    def begin(cls, op: Any) -> Beginning:
        """Return how a stage begins with this operator of the captured graph."""
        raise NotImplementedError

    def apply(self, *maps: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the map (b, c, h, w) that it gives for others; ``weight`` stands in for its own
        weights, if it has any."""
        raise NotImplementedError

    def pad(self, padding: Padding, low: float) -> Self | None:
        """Return the operator that pads its source with zeros first, ``None`` where none does;
        ``low`` bounds the source's values from below."""
        return None

    def lower_bound(self, *lows: float) -> float:
        """Return a lower bound of its results from those of its sources."""
        return -np.inf

    def largest(self, *reaches: float) -> np.ndarray | float:
        """Return the largest sum of magnitudes, (n,) or of all channels, that a result can have for
        sources of these largest magnitudes."""
        return reaches[0]

    def rounding(self, *maps: Tensor) -> Tensor | float:
        """Return how much further its results, (b, n, h, w), are moved than those of a sum by a
        rounding of its sources' largest values."""
        return 0.0

    def ties(self, out: np.ndarray, *sources: np.ndarray) -> Iterable[Tie]:
        """Return which of its sources' channels, given by numbers, must be scaled by the same
        factors as which of the result's, or as channel 0, whose factor is 1."""
        raise NotImplementedError

    def opposites(self, *sources: np.ndarray) -> Iterable[Tie]:
        """Return which of its sources' channels, given by numbers, must be scaled by the inverse of
        which others' factors."""
        return ()

    def kept_factors(self, *sources: np.ndarray) -> np.ndarray | float:
        """Return the factors of its sources, (n,) or one for all channels, by which the result of
        ``rescale`` remains divided, for the gain to make up for."""
        return 1.0

    def rescale(self, out: np.ndarray, *sources: np.ndarray) -> Self:
        """Return the operator that gives the result divided by ``out`` (n,) from sources divided by
        factors (c,) that respect ``ties``."""
        return self

    def at_scales(self, *scales: float) -> Self:
        """Return the operator for sources of which one unit has these real values."""
        return self

    def lower(self, code: WeightCode | None) -> Operator:
        """Return the integer operator; ``code`` is that of its weights, if it has any."""
        raise NotImplementedError

    def unit(self, code: WeightCode | None, scales: Sequence[float]) -> np.ndarray | float:
        """Return the real value of one accumulator unit, (n,) or of all channels, from the real
        values of one level of each source."""
        return scales[0]


def column(values: np.ndarray, like: Tensor | None = None) -> Tensor:
    """Return per-channel values as a tensor that broadcasts over maps: of the type and on the
    device of such a map, else float32 on the CPU."""
    dtype, device = (torch.float32, "cpu") if like is None else (like.dtype, like.device)
    return torch.tensor(values, dtype=dtype, device=device).reshape(1, -1, 1, 1)


def pad_map(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Pad a map with (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def add_padding(first: Padding, second: Padding) -> Padding:
    """Return the sum of two paddings."""
    top, bottom, left, right = (a + b for a, b in zip(first, second, strict=True))
    return top, bottom, left, right
