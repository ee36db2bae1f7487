"""The operators: what each cell of a netlist computes, over any algebra of words.

An algebra has words of known widths: integers side by side (``vectors``) or terms of a solver
(``terms``). What Yosys's cells mean is said here, once for both.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from proofs.netlist import CONSTANT, Cell, Vector

__all__ = ["Algebra", "evaluate", "gather", "width_of"]


class Algebra(Protocol):
    """Operations on words; a truth value is a word of one bit.

    Operands of ``add`` to ``ult`` have the same width, which the methods are told.
    """

    def const(self, value: int, width: int) -> Any: ...
    def part(self, word: Any, low: int, width: int, of: int) -> Any: ...
    def concat(self, words: Sequence[tuple[Any, int]]) -> Any: ...
    def extend(self, word: Any, width: int, to: int, signed: bool) -> Any: ...
    def invert(self, word: Any, width: int) -> Any: ...
    def both(self, a: Any, b: Any, width: int) -> Any: ...
    def either(self, a: Any, b: Any, width: int) -> Any: ...
    def differ(self, a: Any, b: Any, width: int) -> Any: ...
    def add(self, a: Any, b: Any, width: int) -> Any: ...
    def subtract(self, a: Any, b: Any, width: int) -> Any: ...
    def multiply(self, a: Any, b: Any, width: int) -> Any: ...
    def shift_left(self, a: Any, amount: Any, width: int) -> Any: ...
    def shift_right(self, a: Any, amount: Any, width: int, signed: bool) -> Any: ...
    def equal(self, a: Any, b: Any, width: int) -> Any: ...
    def less(self, a: Any, b: Any, width: int, signed: bool) -> Any: ...
    def choose(self, condition: Any, yes: Any, no: Any, width: int) -> Any: ...


def width_of(vector: Vector) -> int:
    """Return the bits of a vector."""
    return sum(part.width for part in vector)


def gather(algebra: Algebra, words: Sequence[Any], widths: Sequence[int], vector: Vector) -> Any:
    """Return a vector's word."""
    found = []
    for part in vector:
        if part.word == CONSTANT:
            found.append((algebra.const(part.low, part.width), part.width))
        else:
            word = words[part.word]
            if part.width != widths[part.word]:
                word = algebra.part(word, part.low, part.width, widths[part.word])
            found.append((word, part.width))
    return found[0][0] if len(found) == 1 else algebra.concat(found)


def resize(algebra: Algebra, word: Any, width: int, to: int, signed: bool) -> Any:
    """Return the low bits of a word, or the word extended."""
    if to < width:
        return algebra.part(word, 0, to, width)
    return algebra.extend(word, width, to, signed) if to > width else word


def evaluate(algebra: Algebra, cell: Cell, get: Callable[[Vector], Any], width: int) -> Any:
    """Return what a cell's output of ``width`` bits is; ``get`` gives the words of its inputs."""
    words = {
        # Yosys gives the constant 0 no bits.
        name: (get(vector), width_of(vector)) if vector else (algebra.const(0, 1), 1)
        for name, vector in cell.inputs.items()
    }
    a, a_width = words["A"]
    b, b_width = words.get("B", (None, 0))
    kind, signed = cell.kind, cell.signed
    if kind in ("$mux", "$bwmux"):
        return algebra.choose(words["S"][0], b, a, width)
    if kind == "$pmux":
        chosen, (select, count) = a, words["S"]
        for index in reversed(range(count)):
            here = algebra.part(select, index, 1, count) if count > 1 else select
            case = algebra.part(b, index * width, width, b_width) if count > 1 else b
            chosen = algebra.choose(here, case, chosen, width)
        return chosen
    if kind in SHIFTS:
        return shifted(algebra, kind, (a, a_width), (b, b_width), width, signed)
    if kind in UNARY:
        inner = resize(algebra, a, a_width, width, signed)
        return UNARY[kind](algebra, inner, width)
    if kind in BINARY:
        inner = (resize(algebra, *operand, width, signed) for operand in (words["A"], words["B"]))
        return BINARY[kind](algebra, *inner, width)
    if kind in COMPARE:
        wide = max(a_width, b_width)
        inner = (resize(algebra, *operand, wide, signed) for operand in (words["A"], words["B"]))
        truth = COMPARE[kind](algebra, *inner, wide, signed)
    elif kind in LOGIC:
        truth = LOGIC[kind](algebra, *(nonzero(algebra, *operand) for operand in words.values()))
    elif kind == "$reduce_and":
        truth = algebra.equal(a, algebra.const((1 << a_width) - 1, a_width), a_width)
    elif kind in ("$reduce_xor", "$reduce_xnor"):
        truth = algebra.const(int(kind == "$reduce_xnor"), 1)
        for index in range(a_width):
            bit = algebra.part(a, index, 1, a_width) if a_width > 1 else a
            truth = algebra.differ(truth, bit, 1)
    else:
        raise NotImplementedError(f"cells must be of a kind in operators.py, not {kind}")
    return algebra.extend(truth, 1, width, False) if width > 1 else truth


def nonzero(algebra: Algebra, word: Any, width: int) -> Any:
    """Return whether a word is not 0."""
    if width == 1:
        return word
    return algebra.invert(algebra.equal(word, algebra.const(0, width), width), 1)


def shifted(
    algebra: Algebra,
    kind: str,
    value: tuple[Any, int],
    amount: tuple[Any, int],
    width: int,
    signed: bool,
) -> Any:
    """Return a shifted word; the amount is unsigned."""
    wide = max(value[1], width, amount[1])
    inner = resize(algebra, *value, wide, signed)
    by = resize(algebra, *amount, wide, False)
    if kind in ("$shl", "$sshl"):
        inner = algebra.shift_left(inner, by, wide)
    else:
        inner = algebra.shift_right(inner, by, wide, signed and kind == "$sshr")
    return resize(algebra, inner, wide, width, False)


SHIFTS = ("$shl", "$sshl", "$shr", "$sshr", "$shift", "$shiftx")

UNARY: dict[str, Callable[..., Any]] = {
    "$not": lambda algebra, a, width: algebra.invert(a, width),
    "$pos": lambda algebra, a, width: a,
    "$neg": lambda algebra, a, width: algebra.subtract(algebra.const(0, width), a, width),
}

BINARY: dict[str, Callable[..., Any]] = {
    "$and": lambda algebra, a, b, width: algebra.both(a, b, width),
    "$or": lambda algebra, a, b, width: algebra.either(a, b, width),
    "$xor": lambda algebra, a, b, width: algebra.differ(a, b, width),
    "$xnor": lambda algebra, a, b, width: algebra.invert(algebra.differ(a, b, width), width),
    "$add": lambda algebra, a, b, width: algebra.add(a, b, width),
    "$sub": lambda algebra, a, b, width: algebra.subtract(a, b, width),
    "$mul": lambda algebra, a, b, width: algebra.multiply(a, b, width),
}

COMPARE: dict[str, Callable[..., Any]] = {
    "$eq": lambda algebra, a, b, width, signed: algebra.equal(a, b, width),
    "$ne": lambda algebra, a, b, width, signed: algebra.invert(algebra.equal(a, b, width), 1),
    "$lt": lambda algebra, a, b, width, signed: algebra.less(a, b, width, signed),
    "$gt": lambda algebra, a, b, width, signed: algebra.less(b, a, width, signed),
    "$le": lambda algebra, a, b, width, signed: algebra.invert(
        algebra.less(b, a, width, signed), 1
    ),
    "$ge": lambda algebra, a, b, width, signed: algebra.invert(
        algebra.less(a, b, width, signed), 1
    ),
}

LOGIC: dict[str, Callable[..., Any]] = {
    "$reduce_or": lambda algebra, a: a,
    "$reduce_bool": lambda algebra, a: a,
    "$logic_not": lambda algebra, a: algebra.invert(a, 1),
    "$logic_and": lambda algebra, a, b: algebra.both(a, b, 1),
    "$logic_or": lambda algebra, a, b: algebra.either(a, b, 1),
}
