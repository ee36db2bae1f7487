"""Wrong bits: a block of the hardware with one bit of one operand of its source inverted or stuck.

``planted`` changes what the block elaborates to, so that whatever builds it builds the mutant: its
tests, its proofs, its Verilog.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Const, Fragment, Shape, Value
from amaranth.hdl._ast import ArrayProxy, Assign, Concat, Operator, Part, Slice, Switch, SwitchValue
from amaranth.lib import wiring

__all__ = ["WrongBit", "planted", "sample", "source_line"]

MODES = ("inv", "const0", "const1")


@dataclass(frozen=True)
class WrongBit:
    """Bit ``bit`` of the operand that ``path`` leads to, in statement ``nth`` of those that line
    ``line`` of the source makes. It is inverted ("inv") or stuck ("const0", "const1")."""

    line: int
    nth: int
    path: tuple[int, ...]
    bit: int
    mode: str

    def __str__(self) -> str:
        path = ".".join(map(str, self.path))
        return f"line {self.line}, statement {self.nth}, operand {path}: bit {self.bit} {self.mode}"


def statements_of(fragment: Fragment) -> Iterator[Assign | Switch]:
    """Yield every statement of a fragment, those inside others after them."""

    def walk(statements: Sequence[Any]) -> Iterator[Assign | Switch]:
        for statement in statements:
            if isinstance(statement, Assign | Switch):
                yield statement
            if isinstance(statement, Switch):
                for _, inner, _ in statement.cases:
                    yield from walk(inner)

    for statements in fragment.statements.values():
        yield from walk(statements)


def numbered(fragment: Fragment) -> Iterator[tuple[int, int, Assign | Switch]]:
    """Yield statements with the line that made them, and which one of that line's they are."""
    seen: Counter[int] = Counter()
    for statement in statements_of(fragment):
        line = (statement.src_loc or ("", 0))[1]
        yield line, seen[line], statement
        seen[line] += 1


def children(node: Any) -> list[Value]:
    """Return the operands of a node."""
    match node:
        case Assign():
            return [node.rhs]
        case Switch():
            return [node.test]
        case Operator():
            return list(node.operands)
        case SwitchValue():
            return [node.test, *(value for _, value in node.cases)]
        case Concat():
            return list(node.parts)
        case Slice():
            return [node.value]
        case Part():
            return [node.value, node.offset]
        case ArrayProxy():
            return [node.index]
    return []


def replace_child(node: Any, index: int, value: Value) -> None:
    """Make another value an operand of a node."""
    match node:
        case Assign():
            node._rhs = value
        case Switch():
            node._test = value
        case Operator():
            node._operands = (*node.operands[:index], value, *node.operands[index + 1 :])
        case SwitchValue() if index == 0:
            node._test = value
        case SwitchValue():
            cases = list(node.cases)
            cases[index - 1] = cases[index - 1][0], value
            node._cases = tuple(cases)
        case Concat():
            node._parts = (*node.parts[:index], value, *node.parts[index + 1 :])
        case Slice():
            node._value = value
        case Part() if index == 0:
            node._value = value
        case Part():
            node._offset = value
        case ArrayProxy():
            node._index = value


def operands(node: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Value]]:
    """Yield the operands inside a statement with the paths to them; constants are none."""
    for index, child in enumerate(children(node)):
        here = (*path, index)
        # A part of a word has the bits of the word, which are the word's own.
        if not isinstance(node, Concat | Slice) and not isinstance(child, Const):
            yield here, child
        yield from operands(child, here)


def changed(value: Value, bit: int, mode: str) -> Value:
    """Return a value with a wrong bit, of the same shape."""
    bits, ones = value.as_unsigned(), (1 << len(value)) - 1
    if mode == "inv":
        wrong = bits ^ Const(1 << bit, len(value))
    elif mode == "const1":
        wrong = bits | Const(1 << bit, len(value))
    else:
        wrong = bits & Const(ones ^ 1 << bit, len(value))
    return wrong.as_signed() if Shape.cast(value.shape()).signed else wrong


def plant(fragment: Fragment, mutant: WrongBit) -> bool:
    """Change a fragment; return whether it has what is to be changed."""
    for line, nth, statement in numbered(fragment):
        if (line, nth) == (mutant.line, mutant.nth):
            node: Any = statement
            for index in mutant.path[:-1]:
                inner = children(node)
                if index >= len(inner):
                    return False
                node = inner[index]
            inner, last = children(node), mutant.path[-1]
            if last >= len(inner) or mutant.bit >= len(inner[last]):
                return False
            replace_child(node, last, changed(inner[last], mutant.bit, mutant.mode))
            return True
    return False


def sample(block: wiring.Component, count: int, seed: int) -> tuple[int, list[WrongBit]]:
    """Return how many mutants a block has, and at most ``count`` of them, in the order of lines."""
    fragment = Fragment.get(block, None)
    every = [
        WrongBit(line, nth, path, bit, mode)
        for line, nth, statement in numbered(fragment)
        for path, value in operands(statement)
        for bit in range(len(value))
        for mode in MODES
    ]
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return len(every), [every[index] for index in sorted(chosen)]


@contextmanager
def planted(kind: Any, mutant: WrongBit) -> Iterator[None]:
    """Let every component of a kind, a class, be a mutant meanwhile."""
    elaborate = kind.elaborate

    def wrong(self: Any, platform: Any) -> Fragment:
        fragment = Fragment.get(elaborate(self, platform), platform)
        plant(fragment, mutant)
        return fragment

    kind.elaborate = wrong
    try:
        yield
    finally:
        kind.elaborate = elaborate


def source_line(kind: type[wiring.Component], line: int) -> str:
    """Return a line of the module that a component is in."""
    return Path(inspect.getfile(kind)).read_text().splitlines()[line - 1].strip()
