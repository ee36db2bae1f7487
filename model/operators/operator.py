"""What an operator is: the one place that says what all of its kind have in common.

An operator is a frozen dataclass in a module of its own; ``model.operators`` registers it by its
``kind``. Everything that the integer network must know of it stands there: the shape of its result,
its exact arithmetic, the proof that its accumulator fits, and what an artifact stores.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from nupes.model.codebook import Codebook
from nupes.model.errors import InputError
from nupes.model.tensor import Shape

__all__ = ["Operator"]


class Operator(ABC):
    """One operator of the contract.

    Maps are (b, h, w, c). An operator that ``copies`` has the codes of its inputs as its result,
    which then share one codebook and scale; any other one has an accumulator, which the layer
    requantizes. ``kind`` names it in artifacts.
    """

    kind: ClassVar[str]
    copies: ClassVar[bool] = False
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

    def bound(self, *codebooks: Codebook) -> int:
        """Return the largest magnitude that any partial sum of the accumulator can reach, in any
        order of summation, for inputs of these codebooks."""
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

    def fields(self) -> dict[str, Any]:
        """Return the parameters as JSON data, by the names of the dataclass's fields."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # pyright: ignore[reportArgumentType]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is stored beside the parameters, by name."""
        return {}

    @classmethod
    def build(cls, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Operator":
        """Return the operator of ``fields`` and ``arrays``; lists stand for tuples."""
        parameters = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**parameters)


def check_numbers(**numbers: tuple[tuple[int, ...] | int, int, int]) -> None:
    """Refuse parameters that are not so many integers of at least so much: ``name=(values, count,
    least)``."""
    for name, (values, count, least) in numbers.items():
        found = values if isinstance(values, tuple) else (values,)
        whole = all(isinstance(value, int | np.integer) for value in found)
        if len(found) != count or not whole or min(found) < least:
            raise InputError(f"{name} must be {count} numbers of at least {least}, not {values}")
