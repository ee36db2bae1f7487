"""Concatenation of maps along their channels, on codes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.operators.operator import Operator
from nupes.model.tensor import Shape

__all__ = ["Concat"]


@dataclass(frozen=True)
class Concat(Operator):
    """The channels of all inputs, one input after another.

    Each part is written by its own encoder, but all of them share one codebook and one scale. An
    array may therefore store them as ranges of one tensor and move nothing.
    """

    kind: ClassVar[str] = "concat"
    copies: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = None

    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the result; refuse maps of different sizes."""
        sizes = {(height, width) for height, width, _ in inputs}
        if len(sizes) > 1:
            raise InputError(f"concatenated maps must have one height and width, not {inputs}")
        ((height, width),) = sizes
        return height, width, sum(channels for _, _, channels in inputs)

    def copy(self, *codes: np.ndarray) -> np.ndarray:
        """Return the codes of all inputs side by side."""
        return np.concatenate(codes, axis=3)
