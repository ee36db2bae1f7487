"""What an operator is: the one place that says what all of its kind have in common.

An operator is a frozen dataclass in a module of its own; ``model.operators`` registers it by its
``kind``. Its fields are what an artifact stores of it, and their hints the types. Everything that
the integer network must know of it stands there: the shape of its result, its exact arithmetic, and
the proof that its accumulator fits.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from nupes.model.errors import InputError
from nupes.model.tensor import Ends, Shape

__all__ = ["LARGEST", "Operator", "check_numbers", "is_integer"]

LARGEST = 2**20
"""The largest kernel, stride, padding, dilation and number of channels of an operator."""


class Operator(ABC):
    """One operator of the contract.

    Maps are (b, h, w, c). An operator that ``copies`` has the codes of its inputs as its result,
    which then share one codebook and scale; any other one has an accumulator, which the layer
    requantizes. Most read codes alone; one that ``reads_wide`` reads wide tensors as well. ``kind``
    names it in artifacts.
    """

    kind: ClassVar[str]
    copies: ClassVar[bool] = False
    reads_wide: ClassVar[bool] = False
    least_inputs: ClassVar[int] = 1
    most_inputs: ClassVar[int | None] = 1

    @abstractmethod
    def shape(self, *inputs: Shape) -> Shape:
        """Return the (h, w, c) of the result; raise ``InputError`` for inputs that do not fit."""

    def check(self) -> None:  # noqa: B027 (most have something to check, none must)
        """Raise ``InputError`` for a parameter out of its range, whatever the inputs are."""

    def accumulate(self, *levels: np.ndarray, bound: int | None = None) -> np.ndarray:
        """Return the exact accumulator, int32 or int64 (b, oh, ow, n), of maps of levels.

        Levels are integers, or the same integers in float32. ``bound`` is that of ``bound``, or
        follows from the levels.
        """
        raise NotImplementedError(f"{self.kind} copies codes")

    def bound(self, *ends: Ends) -> int:
        """Return the largest magnitude that any partial sum of the accumulator can reach, in any
        order of summation, for inputs whose levels lie between these ends; raise ``InputError`` for
        levels that the operator cannot have."""
        raise NotImplementedError(f"{self.kind} copies codes")

    def copy(self, *codes: np.ndarray) -> np.ndarray:
        """Return the codes, uint8 (b, oh, ow, n), of an operator that ``copies``."""
        raise NotImplementedError(f"{self.kind} has an accumulator")

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates for one image."""
        return 0

    def words(self, *inputs: Shape) -> str:
        """Return the operator in words, for tables and reports."""
        return self.kind.replace("_", " ")


def is_integer(value: Any) -> bool:
    """Return whether a value is a whole number by its type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_numbers(**numbers: tuple[tuple[int, ...] | int, int, int]) -> None:
    """Refuse parameters that are not so many integers of at least so much: ``name=(values, count,
    least)``."""
    for name, (values, count, least) in numbers.items():
        found = values if isinstance(values, tuple) else (values,)
        whole = all(is_integer(value) for value in found)
        if len(found) != count or not whole or min(found) < least or max(found) > LARGEST:
            rule = "an integer" if count == 1 else f"{count} integers"
            raise InputError(f"{name} must be {rule} in {least}..{LARGEST}, not {values}")
