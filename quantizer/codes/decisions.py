"""What quantization decides: codes and scales of weights and tensors, and biases.

Search and learning make these choices; lowering turns them into integers and adds none.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.quantizer.codes.rounding import cell_levels, find_cells, look_up

__all__ = ["Choices", "TensorCode", "WeightCode", "round_values"]


@dataclass(frozen=True, eq=False)
class TensorCode:
    """A codebook and the real value of one level; ``error`` is its mean squared error."""

    codebook: Codebook
    scale: float
    exponent: float | None
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class WeightCode:
    """Codes (n, c // groups, kh, kw) uint8 of a convolution's weights and the real value (n,) of
    one level per output channel."""

    codebook: Codebook
    codes: np.ndarray
    scale: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The real weights (n, c // groups, kh, kw) float64 that the codes stand for."""
        return self.codebook.levels[self.codes] * self.scale.reshape(-1, 1, 1, 1)

    def tensor(self, like: Tensor) -> Tensor:
        """Return the real weights, of the type and on the device of another tensor."""
        return torch.tensor(self.real, dtype=like.dtype, device=like.device)


@dataclass(eq=False)
class Choices:
    """All choices by the names of stages and of the tensors that they store.

    ``wide`` are the real values of one unit of tensors without codes; ``bias`` (n,) is added to
    what an operator gives; ``reach`` is the largest pre-activation that was seen; ``learned`` says
    that not all of them are the search's.
    """

    tensors: dict[str, TensorCode] = field(default_factory=dict)
    weights: dict[str, WeightCode] = field(default_factory=dict)
    wide: dict[str, float] = field(default_factory=dict)
    bias: dict[str, np.ndarray] = field(default_factory=dict)
    reach: dict[str, float] = field(default_factory=dict)
    learned: bool = False

    def scale(self, name: str) -> float:
        """Return the real value of one unit of what is stored."""
        return self.wide[name] if name in self.wide else self.tensors[name].scale

    def rounded(self, name: str, values: Tensor) -> Tensor:
        """Return values as the tensor of that name stores them."""
        if name not in self.wide:
            return round_values(values, self.tensors[name])
        scale = self.wide[name]
        return (values / scale).round().clamp(*Y_RANGE) * scale

    def copy(self) -> "Choices":
        """Return a copy that can be changed; codes and arrays are shared."""
        return Choices(
            dict(self.tensors),
            dict(self.weights),
            dict(self.wide),
            dict(self.bias),
            dict(self.reach),
            self.learned,
        )


def round_values(values: Tensor, code: TensorCode) -> Tensor:
    """Return values rounded to the nearest levels of a code."""
    levels = torch.tensor(code.codebook.levels, dtype=torch.float32, device=values.device)
    low, high = int(code.codebook.levels[0]), int(code.codebook.levels[-1])
    table = (levels * code.scale)[cell_levels(levels, low, high)]
    return look_up(table, find_cells(values, code.scale, low, high))
