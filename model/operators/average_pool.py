"""Average pooling."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.operators.window import (
    Padding,
    Window,
    check_window,
    pad_levels,
    tap_slices,
    window_sizes,
    window_words,
)
from nupes.model.tensor import Ends, Shape

__all__ = ["AveragePool"]


@dataclass(frozen=True)
class AveragePool(Window):
    """Sum over a window; the divisor is folded in the requantization. Padding counts as level 0."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = (0, 0, 0, 0)

    kind: ClassVar[str] = "average_pool"
    dilation: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Refuse sizes out of their ranges."""
        check_window(self)

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the result."""
        ((height, width, channels),) = inputs
        return *window_sizes(self, height, width), channels

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the sum of the taps."""
        (source,) = levels
        oh, ow, _ = self.shape(source.shape[1:])
        padded = pad_levels(source, self.padding)
        first, *others = (padded[:, ys, xs] for ys, xs in tap_slices(self, oh, ow))
        return sum((tap.astype(np.int32) for tap in others), first.astype(np.int32))

    def bound(self, *ends: Ends) -> int:
        """Return the largest magnitude times the taps."""
        ((low, high),) = ends
        return max(abs(low), abs(high)) * self.kernel[0] * self.kernel[1]

    def words(self, *inputs: Shape) -> str:
        """Return window and stride in words."""
        return " ".join(["average pool", "x".join(map(str, self.kernel)), *window_words(self)])
