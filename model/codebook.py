"""Codebooks: sorted tables of distinct integer levels that give each code its value.

A tensor stores codes ``c`` in ``[0, K)``; the value of a code is ``scale * levels[c]``. Every
number format is such a table, so nothing after this module knows which format it carries. The
families are pure functions of their parameters: an artifact keeps the parameters, and they
reproduce the table.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from nupes.model.errors import InputError
from nupes.model.stored import Int16Vector

__all__ = [
    "ACTIVATION_LEVELS",
    "WEIGHT_LEVELS",
    "Codebook",
    "Family",
    "make_codebook",
    "power_levels",
    "table_codebook",
    "uniform_levels",
]

WEIGHT_LEVELS = (-128, 127)
"""Range of weight levels: signed 8 bits."""

ACTIVATION_LEVELS = (-256, 255)
"""Range of activation levels: signed 9 bits."""

Family = Literal["uniform", "power", "power-midrise", "table"]


@dataclass(frozen=True, eq=False)
class Codebook:
    """A sorted table of distinct integer levels and the parameters that made it.

    ``levels`` is int16 of shape ``(K,)``, strictly increasing, ``1 <= K <= 2**bits``. ``exponent``
    is the power exponent ``a``, ``lmax`` the magnitude of the outermost level. The parameters of a
    parametric family reproduce the table; those of ``table`` are notes of how it came to be, but
    for ``signed``, which says whether a level is negative.
    """

    levels: Int16Vector
    bits: int
    family: Family = "table"
    signed: bool = True
    lmax: int | None = None
    exponent: float | None = None

    def __post_init__(self) -> None:
        levels = np.asarray(self.levels)
        if levels.ndim != 1 or levels.size == 0:
            raise InputError(
                f"codebook levels must be a non-empty vector, not shape {levels.shape}"
            )
        if not np.issubdtype(levels.dtype, np.integer):
            raise InputError(f"codebook levels must be integers, not {levels.dtype}")
        levels = levels.astype(np.int64)
        if not 1 <= self.bits <= 8:
            raise InputError(f"codebook bits must be 1 to 8, not {self.bits}")
        if levels.size > 2**self.bits:
            raise InputError(
                f"codebook of {self.bits} bits must have at most {2**self.bits} levels, "
                f"not {levels.size}"
            )
        if np.any(np.diff(levels) <= 0):
            raise InputError("codebook levels must be strictly increasing")
        low, high = ACTIVATION_LEVELS
        if levels[0] < low or levels[-1] > high:
            raise InputError(
                f"codebook levels must lie in {low}..{high}, not {levels[0]}..{levels[-1]}"
            )
        self._check_parameters(levels)
        frozen = levels.astype(np.int16)
        frozen.flags.writeable = False
        object.__setattr__(self, "levels", frozen)

    def _check_parameters(self, levels: np.ndarray) -> None:
        """Refuse parameters that are not those of the levels."""
        if self.exponent is not None and not 0 < self.exponent <= 8:
            raise InputError(f"power exponent must be in (0, 8], not {self.exponent}")
        if self.lmax is not None and not 0 < self.lmax <= -ACTIVATION_LEVELS[0]:
            raise InputError(
                f"codebook lmax must lie in 1..{-ACTIVATION_LEVELS[0]}, not {self.lmax}"
            )
        if self.family == "table":
            if self.signed != bool(levels[0] < 0):
                raise InputError(
                    f"a table that begins with level {levels[0]} must have signed "
                    f"{bool(levels[0] < 0)}, not {self.signed}"
                )
            return
        made = family_levels(self.family, self.bits, self.signed, self.lmax, self.exponent)
        if not np.array_equal(made, levels):
            raise InputError(
                f"levels of a {self.family} codebook must be those of its parameters, "
                f"{made.tolist()}, not {levels.tolist()}"
            )

    def __len__(self) -> int:
        return len(self.levels)

    @cached_property
    def even(self) -> bool:
        """Whether the levels lie equally far apart."""
        return len(set(np.diff(self.levels).tolist())) == 1

    def level_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the levels of codes, uint8 of any shape, as float32."""
        if not self.even:
            return self.levels.astype(np.float32).take(codes)
        # By far the faster way: looking levels up makes an index of eight bytes of each code.
        found = codes.astype(np.float32, order="C")
        found *= np.float32(self.levels[1] - self.levels[0])
        found += np.float32(self.levels[0])
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codebook) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple:
        return (
            tuple(self.levels.tolist()),
            self.bits,
            self.family,
            self.signed,
            self.lmax,
            self.exponent,
        )

    @property
    def is_weight(self) -> bool:
        """Whether every level fits the signed 8 bits of a weight."""
        return bool(WEIGHT_LEVELS[0] <= self.levels[0] and self.levels[-1] <= WEIGHT_LEVELS[1])

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Return the code (uint8) of the level nearest to each value (in level units); ties go to
        the upper level."""
        low, high = 2 * int(self.levels[0]), 2 * int(self.levels[-1])
        cells = np.array(values, np.float64)  # in place from here on: values are many
        cells *= 2
        np.floor(cells, out=cells)
        np.fmin(cells, high, out=cells)  # takes NaN as well
        np.fmax(cells, low, out=cells)
        cells -= low
        return self._cells[cells.astype(np.intp)]

    @cached_property
    def _cells(self) -> np.ndarray:
        """The nearest code of the values in each cell of half a level unit, from the first level
        on: levels are integers, so that the thresholds between them are whole or half."""
        halves = np.arange(2 * int(self.levels[0]), 2 * int(self.levels[-1]) + 1)
        middle = self.levels[:-1].astype(np.int64) + self.levels[1:]
        return np.searchsorted(middle, halves, side="right").astype(np.uint8)


def uniform_levels(bits: int, signed: bool, lmax: int | None = None) -> np.ndarray:
    """Return equally spaced integer levels: ``-q..q`` (signed, ``q = 2**(bits-1) - 1``) or
    ``0..2**bits - 1``.

    With ``lmax`` the levels are the integers nearest to an equally spaced grid that ends at
    ``lmax``.
    """
    steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    top = steps if lmax is None else lmax
    positive = np.floor(top * np.arange(steps + 1) / steps + 0.5).astype(np.int64)
    return np.unique(np.concatenate([-positive, positive]) if signed else positive)


def power_levels(
    bits: int, signed: bool, lmax: int, exponent: float, midrise: bool = False
) -> np.ndarray:
    """Return the levels ``+-round(lmax * (k / q) ** (1 / a))`` of the power codebook with exponent
    ``a``.

    Mid-tread has a zero level and ``q = 2**(bits-1) - 1`` steps on each side (``2**bits - 1`` steps
    if unsigned). Mid-rise has no zero level: magnitudes ``((k + 1/2) / (q + 1/2)) ** (1 / a)`` for
    ``k`` in ``0..q``. Levels that coincide after rounding are merged. Source: the NUPES/PowerQuant
    dequantization ``s * (|c| / q) ** (1 / a)``, with ``s`` carried by the tensor's scale and the
    table rounded to integers.
    """
    if not 0 < exponent <= 8:
        raise InputError(f"power exponent must be in (0, 8], not {exponent}")
    steps = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    index = np.arange(steps + 1, dtype=np.float64)
    ratio = (index + 0.5) / (steps + 0.5) if midrise else index / max(steps, 1)
    positive = np.floor(lmax * ratio ** (1.0 / exponent) + 0.5).astype(np.int64)
    return np.unique(np.concatenate([-positive, positive]) if signed else positive)


def family_levels(
    family: Family, bits: int, signed: bool, lmax: int | None, exponent: float | None
) -> np.ndarray:
    """Return the levels of a parametric family."""
    if signed and bits == 1 and family != "power-midrise":
        raise InputError(f"signed {family} codebook must have at least 2 bits, not 1")
    if family == "uniform":
        if exponent is not None:
            raise InputError(f"a uniform codebook must have no exponent, not {exponent}")
        return uniform_levels(bits, signed, lmax)
    if family in ("power", "power-midrise"):
        if lmax is None or exponent is None:
            raise InputError(
                f"codebook family {family!r} needs lmax and exponent, not {lmax} and {exponent}"
            )
        return power_levels(bits, signed, lmax, exponent, midrise=family == "power-midrise")
    raise InputError(f"codebook family must be uniform, power or power-midrise, not {family!r}")


def make_codebook(
    family: Family, bits: int, signed: bool, lmax: int | None = None, exponent: float | None = None
) -> Codebook:
    """Return the codebook of a parametric family; equal parameters give equal tables."""
    levels = family_levels(family, bits, signed, lmax, exponent)
    return Codebook(levels, bits, family, signed, lmax, exponent)


def table_codebook(levels: np.ndarray | list[int], bits: int) -> Codebook:
    """Return a codebook with explicit levels (look-up, learned or shifted tables)."""
    array = np.asarray(levels)
    return Codebook(array, bits, "table", bool(array.size and array.min() < 0))
