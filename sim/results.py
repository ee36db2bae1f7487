"""What a program computed on the simulated hardware."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nupes.model.errors import InputError
from nupes.model.summary import html_table

__all__ = ["SimulationResult", "join_results"]

SHOWN = 10
"""Images, and values of each, that a notebook shows."""


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What a program computed on the hardware, image by image.

    ``outputs`` float64 (b, *output shape): equal to the integer network's, a tuple where it has
    several; ``y`` int16, the same before the scale; ``cycles``: from ``start`` to ``done``, per
    run: an image, or a batch of the program's; ``layer_cycles`` int64 (runs, layers): their sum is
    ``cycles``; a layer runs from its first word to the next layer's, the first from ``start``, the
    last to ``done``.
    """

    outputs: Any
    y: Any
    cycles: list[int]
    layer_cycles: np.ndarray

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.y[0] if isinstance(self.y, tuple) else self.y)

    def __repr__(self) -> str:
        spread = " to ".join(f"{value:,}" for value in sorted({min(self.cycles), max(self.cycles)}))
        runs = len(self.cycles)
        each = "each" if runs == self.images else f"for each of {runs} batches"
        return f"SimulationResult({self.images} images, {spread} cycles {each})"

    def _repr_html_(self) -> str:
        """Return the cycles of the run and the first output per image as a notebook shows them; the
        first images only."""
        first = self.y[0] if isinstance(self.y, tuple) else self.y
        batch = -(-self.images // len(self.cycles))
        rows = []
        for image, y in enumerate(first[:SHOWN]):
            values = np.array2string(y.reshape(-1)[:SHOWN], separator=" ")
            rows.append((image, self.cycles[image // batch], values))
        return html_table(repr(self), ("image", "cycles", "first values of y"), rows)


def join_results(parts: Sequence[SimulationResult]) -> SimulationResult:
    """Return the result of all images; raise ``InputError`` if there are none."""
    if not parts:
        raise InputError("images must contain at least one image, not 0")
    return SimulationResult(
        outputs=join_images([part.outputs for part in parts]),
        y=join_images([part.y for part in parts]),
        cycles=[cycles for part in parts for cycles in part.cycles],
        layer_cycles=np.concatenate([part.layer_cycles for part in parts]),
    )


def join_images(values: Sequence[Any]) -> Any:
    """Return arrays of several images as one, or tuples of arrays as one tuple."""
    if isinstance(values[0], tuple):
        return tuple(map(np.concatenate, zip(*values, strict=True)))
    return np.concatenate(values)
