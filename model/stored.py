"""The types of arrays as artifacts store them; the hints of the dataclasses name them."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

__all__ = [
    "CodeMap",
    "CodeMatrix",
    "CodeVector",
    "Float64Matrix",
    "Float64Vector",
    "Int16Vector",
    "Int32Vector",
    "Int64Vector",
    "PackedCodes",
    "Stored",
]


@dataclass(frozen=True)
class Stored:
    """How an array is stored: NumPy's name of its type, its axes, and whether its codes are packed
    to the bits of the codebook beside them."""

    dtype: str
    axes: int
    packed: bool = False


CodeMatrix = Annotated[np.ndarray, Stored("uint8", 2)]
CodeMap = Annotated[np.ndarray, Stored("uint8", 3)]
CodeVector = Annotated[np.ndarray, Stored("uint8", 1)]
Float64Matrix = Annotated[np.ndarray, Stored("float64", 2)]
Float64Vector = Annotated[np.ndarray, Stored("float64", 1)]
Int16Vector = Annotated[np.ndarray, Stored("int16", 1)]
Int32Vector = Annotated[np.ndarray, Stored("int32", 1)]
Int64Vector = Annotated[np.ndarray, Stored("int64", 1)]
PackedCodes = Annotated[np.ndarray, Stored("uint8", 4, packed=True)]
