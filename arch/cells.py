"""MAC cells: which codebooks each kind holds, and how tensors become the operands it multiplies.

The cells of an array differ in what they multiply, never in the result. An *operand* is a small
signed number that stands for a level: its sign, and a magnitude that indexes ``magnitudes``. A
tensor takes one pass over the array where one operand a code is enough, and several with shifted
partial sums where its levels are digits: always ``level = sum_i operand level_i << shift_i``.

| cell | product of operands u and v | one pass for |
| --- | --- | --- |
| decode | u * v | every codebook; an operand is the level itself |
| uniform | u * v | levels that are small integers |
| square | sign * (u * v)**2, or u * v (linear) | exact squares (exponent 1/2), small integers |
| pair | a table of magnitudes, loaded per layer | every codebook of few enough magnitudes |
| product | a fixed table of magnitudes | the codebooks that the array was designed for |

Source of the square cell: powers preserve products, ``(u * v)**2 == u**2 * v**2``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nupes.model.codebook import ACTIVATION_LEVELS, WEIGHT_LEVELS
from nupes.model.errors import InputError, UnsupportedError
from nupes.model.planes import Planes

__all__ = [
    "CELLS",
    "CellKind",
    "CodebookRule",
    "Operands",
    "codebook_rule",
    "holds",
    "operands",
    "product_table",
    "requirement",
]

CELLS = ("decode", "uniform", "square", "pair", "product")
"""Kinds of cells: any levels, small integers, squares, a loaded table, a fixed table."""

LINEAR = ("uniform",)
"""Those whose operands are small integers that always stand for themselves."""

PRODUCT_BITS = 5
"""Widest codes of a product cell: it has no planes."""


@dataclass(frozen=True)
class CellKind:
    """A kind of cell and the bits of its operands, sign included.

    ``weight_top`` and ``activation_top`` are the largest magnitudes of levels in a pair cell's
    table. ``weight_magnitudes`` and ``activation_magnitudes`` are the levels of a product cell: 0,
    then rising.
    """

    mac: str
    weight_bits: int
    activation_bits: int
    weight_top: int = WEIGHT_LEVELS[1]
    activation_top: int = ACTIVATION_LEVELS[1]
    weight_magnitudes: tuple[int, ...] = ()
    activation_magnitudes: tuple[int, ...] = ()

    @property
    def weight_limit(self) -> int:
        """Largest magnitude of a weight operand."""
        return (1 << (self.weight_bits - 1)) - 1

    @property
    def activation_limit(self) -> int:
        """Largest magnitude of an activation operand."""
        return (1 << (self.activation_bits - 1)) - 1


@dataclass(frozen=True, eq=False)
class Operands:
    """How one tensor enters the cells, pass by pass.

    Pass ``i`` reads stored digit ``planes[i]`` through ``tables[i]`` (passes, digits) int16, and
    its partial sums are shifted left by ``shifts[i]``. One that is ``joined`` reads the digit after
    too, as the upper one of the two side by side. ``magnitudes`` int64 gives the level of each
    magnitude of an operand, 0 first; ``linear`` says that it stands for itself.
    """

    planes: tuple[int, ...]
    tables: np.ndarray
    shifts: tuple[int, ...]
    magnitudes: np.ndarray
    linear: bool = True
    joined: tuple[bool, ...] = ()

    def digits(self, stored: Planes) -> np.ndarray:
        """Return what each pass reads of each stored code, int64 (codes, passes)."""
        digits, p = stored.digits.astype(np.int64), stored.code_bits
        read = digits[:, list(self.planes)]
        for index, joined in enumerate(self.joined):
            if joined:
                read[:, index] += digits[:, self.planes[index] + 1] << p
        return read

    @property
    def levels(self) -> np.ndarray:
        """Level of each digit in each pass, shift included: int64 (passes, digits)."""
        values = np.sign(self.tables) * self.magnitudes[np.abs(self.tables)]
        return values << np.array(self.shifts, np.int64)[:, None]


@dataclass(frozen=True)
class CodebookRule:
    """What a quantizer must keep to so that a cell holds its codebooks.

    ``family``: "uniform" (without ``lmax``), "power", or None for any. ``exponents``: the power
    exponents allowed, None for any. ``squares``: ``lmax`` must be ``lmax_of(steps)``. ``shared``:
    one codebook for all weights and one for all activations of the network, input included.
    ``midrise``: levels without a zero fit too, which have one magnitude more.
    """

    family: str | None = None
    exponents: tuple[float, ...] | None = None
    squares: bool = False
    shared: bool = False
    midrise: bool = False

    def lmax_of(self, steps: int) -> int | None:
        """Return the outermost level of a codebook with ``steps`` levels beyond 0 on its longer
        side; None: free."""
        return steps * steps if self.squares else None


def codebook_rule(mac: str, bits: int, signed: bool, weight: bool = False) -> CodebookRule:
    """Return what a cell asks of a codebook of ``bits`` bits that is one operand a code.

    Squares beyond the range of levels (from 5 bits on) have no rule: such tensors are wide, and run
    as planes whatever their levels. Raise ``InputError`` for a cell or bits that do not exist, and
    for more than ``PRODUCT_BITS`` on the product cell.
    """
    check_name(mac)
    if not 2 <= bits <= 8:
        raise InputError(f"bits must be 2 to 8, not {bits}")
    if mac in LINEAR:
        return CodebookRule("uniform", (1.0,))
    if mac == "square":
        steps = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
        largest = WEIGHT_LEVELS[1] if weight else ACTIVATION_LEVELS[1]
        return CodebookRule("power", (0.5,), True) if steps**2 <= largest else CodebookRule()
    if mac == "product":
        if bits > PRODUCT_BITS:
            raise InputError(
                f"codes on the product cell must have at most {PRODUCT_BITS} bits, not {bits}; "
                "use fewer bits for the ends too"
            )
        return CodebookRule(shared=True)
    return CodebookRule(midrise=mac == "decode")


def check_name(mac: str) -> None:
    """Refuse a cell that does not exist."""
    if mac not in CELLS:
        raise InputError(f"cell must be one of {', '.join(CELLS)}, not {mac!r}")


def nonzero(levels: np.ndarray | Iterable[int]) -> np.ndarray:
    """Return the distinct magnitudes of levels other than 0, rising."""
    magnitudes = np.unique(np.abs(np.asarray(levels, np.int64)))
    return magnitudes[magnitudes > 0]


def holds(kind: CellKind, levels: np.ndarray, weight: bool) -> bool:
    """Return whether a cell takes narrow levels (one digit a code) in one pass."""
    limit = kind.weight_limit if weight else kind.activation_limit
    found = nonzero(levels)
    if kind.mac == "decode" or len(found) == 0:
        return True
    if kind.mac == "pair":
        top = kind.weight_top if weight else kind.activation_top
        return len(found) <= limit and bool(found[-1] <= top)
    if kind.mac == "product":
        fixed = kind.weight_magnitudes if weight else kind.activation_magnitudes
        return bool(np.isin(found, fixed).all())
    return bool(found[-1] <= limit) or (kind.mac == "square" and roots(found, limit) is not None)


def roots(levels: np.ndarray, limit: int) -> np.ndarray | None:
    """Return the square roots of magnitudes if all are exact and at most ``limit``."""
    found = np.rint(np.sqrt(levels)).astype(np.int64)
    return found if (found**2 == levels).all() and found.max(initial=0) <= limit else None


def requirement(kind: CellKind, weight: bool) -> str:
    """Return what a cell's levels must be, in words."""
    limit = kind.weight_limit if weight else kind.activation_limit
    if kind.mac in LINEAR:
        return f"integers from {-limit} to {limit}"
    if kind.mac == "square":
        squares = f"squares +-k*k with k up to {limit} (exponent 0.5, lmax {limit**2})"
        return f"{squares} or integers from -{limit} to {limit}"
    if kind.mac == "pair":
        top = kind.weight_top if weight else kind.activation_top
        return f"of at most {limit} magnitudes besides 0, up to {top}"
    if kind.mac == "product":
        fixed = kind.weight_magnitudes if weight else kind.activation_magnitudes
        return f"among +-{list(fixed)}"
    return "any levels"


def operands(
    kind: CellKind, weights: Planes | None, activations: Planes, *, stored: bool = False
) -> tuple[Operands, Operands]:
    """Return how the weights and the input of a layer enter its cells: the same levels, exactly.

    ``weights`` None is an identity tile, whose code 1 copies and whose other codes are 0;
    ``stored`` weights come from memory, one digit at a time. The square cell squares only if both
    operands are squares; else both are linear. Raise
    ``UnsupportedError`` for levels that a product cell does not have.
    """
    identity = weights is None
    weights = unit_planes(activations.code_bits) if weights is None else weights
    if kind.mac == "decode":
        return (levels_of if stored else pairs_of)(weights), pairs_of(activations)
    limits = kind.weight_limit, kind.activation_limit
    if kind.mac == "product":
        first = table_operands(weights, np.array(kind.weight_magnitudes))
        first = sum_operands(kind, weights) if identity else first
        second = table_operands(activations, np.array(kind.activation_magnitudes))
        if first is None or second is None:
            raise UnsupportedError(f"levels must be {requirement(kind, first is None)}")
        return first, second
    known: list[Operands | None] = [None, None]
    if kind.mac not in LINEAR:
        own = square_operands if kind.mac == "square" else pair_operands
        known = [own(weights, limits[0]), own(activations, limits[1])]
    if kind.mac == "square" and None in known:
        known = [None, None]
    return (
        known[0] or linear_operands(weights, limits[0]),
        known[1] or linear_operands(activations, limits[1]),
    )


def levels_of(planes: Planes) -> Operands:
    """Return operands that are the levels themselves."""
    count = planes.count
    largest = int(np.abs(planes.tables.astype(np.int64)).max(initial=0))
    return Operands(tuple(range(count)), planes.tables, (0,) * count, np.arange(largest + 1))


def pairs_of(planes: Planes) -> Operands:
    """Return operands that are levels of two digits side by side, and of the last one alone where
    their number is odd.

    The lowest level is added to that one, else to the first pair.
    """
    count, p = planes.count, planes.code_bits
    if count == 1:
        return levels_of(planes)
    digits = planes.digits.astype(np.int64)
    tables, shifts = [], []
    for plane in range(0, count - 1, 2):
        pair = digits[:, plane] + (digits[:, plane + 1] << p)
        # Lower digits take every value: a structural zero may have some that no code has.
        top = int(pair.max()) if plane + 2 == count else (1 << 2 * p) - 1
        tables.append(np.arange(top + 1))
        shifts.append(plane * p)
    if count % 2:
        tables.append(planes.tables[-1].astype(np.int64))
        shifts.append(0)
    else:
        tables[0] = tables[0] + planes.offset
    width = max(map(len, tables))
    whole = np.array([np.pad(table, (0, width - len(table)), mode="edge") for table in tables])
    return Operands(
        tuple(range(0, count, 2)),
        whole.astype(np.int16),
        tuple(shifts),
        np.arange(int(np.abs(whole).max()) + 1),
        joined=tuple(plane + 1 < count for plane in range(0, count, 2)),
    )


def table_operands(planes: Planes, magnitudes: np.ndarray) -> Operands | None:
    """Return operands that index sorted magnitudes (0 first), or None if a level is not there."""
    table = planes.tables[0].astype(np.int64)
    index = np.minimum(np.searchsorted(magnitudes, np.abs(table)), len(magnitudes) - 1)
    if planes.count > 1 or not np.array_equal(magnitudes[index], np.abs(table)):
        return None
    signed = (np.sign(table) * index).astype(np.int16)
    return Operands((0,), signed[None], (0,), magnitudes, linear=False)


def square_operands(planes: Planes, limit: int) -> Operands | None:
    """Return the signed roots of a narrow table of squares, or None."""
    return table_operands(planes, np.arange(limit + 1, dtype=np.int64) ** 2)


def pair_operands(planes: Planes, limit: int) -> Operands | None:
    """Return indices of a narrow table's own magnitudes, or None if there are too many."""
    found = nonzero(planes.tables[0])
    if len(found) > limit:
        return None
    return table_operands(planes, np.concatenate([[0], found]))


def linear_operands(planes: Planes, limit: int) -> Operands:
    """Return the digits of the levels, base ``limit + 1``, with the sign of the level.

    The lowest level of a wide tensor is not added to its top digit but subtracted digit by digit,
    so that each stored digit mostly remains one digit. Passes that would add nothing are left out.
    """
    bits = limit.bit_length()
    found: list[tuple[int, np.ndarray, int]] = []
    for plane, table in enumerate(spread_offset(planes)):
        sign, rest, shift = np.sign(table), np.abs(table), 0
        while rest.any():
            if (rest & limit).any():
                found.append((plane, sign * (rest & limit), shift))
            rest, shift = rest >> bits, shift + bits
    found = found or [(0, np.zeros(1 << planes.code_bits, np.int64), 0)]
    return Operands(
        tuple(plane for plane, _, _ in found),
        np.array([table for _, table, _ in found], np.int16),
        tuple(shift for _, _, shift in found),
        np.arange(limit + 1),
    )


def spread_offset(planes: Planes) -> np.ndarray:
    """Return the tables of the planes with the lowest level taken from each digit in turn, int64.

    Digit by digit, ``level = sum_i (digit_i - n_i) << (p * i)`` with ``n_i`` the digits of
    ``-levels[0]``; the tables add up to the same level for every code.
    """
    tables = planes.tables.astype(np.int64)
    if planes.count == 1 or planes.offset >= 0:
        return tables
    low, p = -planes.offset, planes.code_bits
    for plane in range(planes.count - 1):
        share = (low >> (p * plane) & ((1 << p) - 1)) << (p * plane)
        tables[plane] -= share
        tables[-1] += share
    return tables


def product_table(kind: CellKind, weights: Operands, activations: Operands) -> np.ndarray:
    """Return the products of magnitudes, int64 (2**(weight_bits-1), 2**(activation_bits-1)).

    Magnitudes that no operand has give 0.
    """
    table = np.zeros((kind.weight_limit + 1, kind.activation_limit + 1), np.int64)
    table[: len(weights.magnitudes), : len(activations.magnitudes)] = np.multiply.outer(
        weights.magnitudes, activations.magnitudes
    )
    return table


def unit_planes(code_bits: int) -> Planes:
    """Return the weights of an identity tile: code 1 has level 1, every other code level 0."""
    table = np.zeros((1, 1 << code_bits), np.int16)
    table[0, 1] = 1
    return Planes(code_bits, table, np.arange(2, dtype=np.uint8)[:, None], 0)


def sum_operands(kind: CellKind, unit: Planes) -> Operands:
    """Return an identity for a product cell: as many passes as weights add up to 1."""
    magnitudes = np.array(kind.weight_magnitudes)
    terms = np.array(sum_to_one(kind.weight_magnitudes))
    index = (np.sign(terms) * np.searchsorted(magnitudes, np.abs(terms))).astype(np.int16)
    none = (0,) * len(terms)
    return Operands(none, unit.tables * index[:, None], none, magnitudes, linear=False)


def sum_to_one(magnitudes: Sequence[int]) -> list[int]:
    """Return the fewest signed magnitudes whose sum is 1; raise ``InputError`` if none is."""
    steps = [sign * int(m) for m in magnitudes if m for sign in (1, -1)]
    limit = max((abs(step) for step in steps), default=0)
    reached: dict[int, list[int]] = {0: []}
    border = [0]
    while border and 1 not in reached:
        following = []
        for total in border:
            for step in steps:
                if abs(total + step) <= limit and total + step not in reached:
                    reached[total + step] = [*reached[total], step]
                    following.append(total + step)
        border = following
    if 1 not in reached:
        raise InputError(
            f"weight_magnitudes must have no common divisor, for an identity, not {magnitudes}"
        )
    return reached[1]
