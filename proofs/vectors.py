"""Vectors: words as arrays of integers; a netlist simulated for many inputs or mutants at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from proofs.netlist import Netlist, Vector
from proofs.operators import evaluate, gather

__all__ = ["MUTATE", "Simulation", "Vectors", "as_word"]

MUTATE = "$mutate"
"""A cell that changes bits of a word, in each vector others."""

NATIVE = 64
"""Bits of a word up to which it is a machine integer; wider ones are Python's."""


def as_word(values: Any, width: int) -> np.ndarray:
    """Return integers, of whatever type, as an array of words."""
    # At least one dimension: NumPy's scalar objects are no arrays.
    return np.atleast_1d(np.asarray(values)).astype(np.uint64 if width <= NATIVE else object)


class Vectors:
    """The algebra of arrays of unsigned integers; shapes broadcast."""

    def _mask(self, word: np.ndarray, width: int) -> np.ndarray:
        mask = (1 << width) - 1
        return word & (mask if word.dtype == object else np.uint64(mask))

    def const(self, value: int, width: int) -> np.ndarray:
        return as_word(value, width)

    def part(self, word: np.ndarray, low: int, width: int, of: int) -> np.ndarray:
        shifted = word >> (np.uint64(low) if of <= NATIVE else low)
        return self._mask(as_word(self._mask(shifted, min(width, of)), width), width)

    def concat(self, words: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
        total = sum(width for _, width in words)
        result, low = self.const(0, total), 0
        for word, width in words:
            wide = as_word(word, total)
            result = result | (wide << (np.uint64(low) if total <= NATIVE else low))
            low += width
        return result

    def extend(self, word: np.ndarray, width: int, to: int, signed: bool) -> np.ndarray:
        wide = as_word(word, to)
        if not signed:
            return wide
        top = 1 << (width - 1)
        if to <= NATIVE:
            return self._mask((wide ^ np.uint64(top)) - np.uint64(top), to)
        return self._mask((wide ^ top) - top, to)

    def invert(self, word: np.ndarray, width: int) -> np.ndarray:
        return self._mask(~word, width)

    def both(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return a & b

    def either(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return a | b

    def differ(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return a ^ b

    def add(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return self._mask(a + b, width)

    def subtract(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return self._mask(a - b, width)

    def multiply(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return self._mask(a * b, width)

    def shift_left(self, a: np.ndarray, amount: np.ndarray, width: int) -> np.ndarray:
        if width > NATIVE:
            amount = np.minimum(amount, width)
            return self._mask(a << amount, width)
        near = np.minimum(amount, np.uint64(NATIVE - 1))
        return np.where(amount < width, self._mask(a << near, width), np.uint64(0))

    def shift_right(
        self, a: np.ndarray, amount: np.ndarray, width: int, signed: bool
    ) -> np.ndarray:
        if width > NATIVE:
            wide = (a ^ 1 << (width - 1)) - (1 << (width - 1)) if signed else a
            return self._mask(wide >> np.minimum(amount, width), width)
        near = np.minimum(amount, np.uint64(NATIVE - 1))
        if signed:
            wide = self.extend(a, width, NATIVE, True).astype(np.int64)
            return self._mask((wide >> near.astype(np.int64)).astype(np.uint64), width)
        return np.where(amount < NATIVE, a >> near, np.uint64(0))

    def equal(self, a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
        return np.asarray(a == b).astype(np.uint64)

    def less(self, a: np.ndarray, b: np.ndarray, width: int, signed: bool) -> np.ndarray:
        if signed:
            top = np.uint64(1 << (width - 1)) if width <= NATIVE else 1 << (width - 1)
            a, b = a ^ top, b ^ top
        return np.asarray(a < b).astype(np.uint64)

    def choose(
        self, condition: np.ndarray, yes: np.ndarray, no: np.ndarray, width: int
    ) -> np.ndarray:
        return np.where(condition != 0, yes, no)


class Simulation:
    """A netlist over ``count`` vectors side by side, from power-up; memories hold their ``init``.

    ``words`` are those of the present cycle, arrays of shape (count,) or (1,), after ``settle``.
    ``masks`` say of the output of each mutating cell which bits are inverted, kept and set.
    """

    def __init__(self, netlist: Netlist, count: int) -> None:
        self.netlist, self.count, self.algebra = netlist, count, Vectors()
        self.masks: dict[int, tuple[Any, Any, Any]] = {}
        self.words: list[Any] = [None] * len(netlist.widths)
        self.memories: list[np.ndarray] = []
        for register in netlist.registers:
            self.words[register.word] = as_word(register.init, netlist.widths[register.word])
        for memory in netlist.memories:
            entries = as_word(list(memory.init), memory.width)
            self.memories.append(np.tile(entries, (count, 1)))
            for read in memory.reads:
                self.words[read.word] = as_word(0, memory.width)

    def get(self, vector: Vector) -> np.ndarray:
        """Return a vector's values."""
        return gather(self.algebra, self.words, self.netlist.widths, vector)

    def output(self, name: str) -> np.ndarray:
        """Return an output's values, of shape (count,)."""
        return np.broadcast_to(self.get(self.netlist.outputs[name]), self.count)

    def settle(self, inputs: Mapping[str, Any]) -> None:
        """Compute the present cycle from its inputs; those without a value are 0."""
        netlist = self.netlist
        for name, word in netlist.inputs.items():
            self.words[word] = as_word(inputs.get(name, 0), netlist.widths[word])
        for cell in netlist.cells:
            if cell.kind == MUTATE:
                turn, keep, fix = self.masks[cell.output]
                self.words[cell.output] = ((self.get(cell.inputs["A"]) ^ turn) & keep) | fix
            elif cell.kind == "$read":
                self.words[cell.output] = self._read(cell.memory, self.get(cell.inputs["A"]))
            else:
                self.words[cell.output] = evaluate(
                    self.algebra, cell, self.get, netlist.widths[cell.output]
                )

    def tick(self) -> None:
        """Go on to the next cycle, which must be settled."""
        netlist = self.netlist
        after = {register.word: self.get(register.data) for register in netlist.registers}
        for index, memory in enumerate(netlist.memories):
            for read in memory.reads:
                address = self.get(read.address)
                data = self._read(index, address)
                for write, transparent in zip(memory.writes, read.transparent, strict=True):
                    if transparent:
                        same = address == self.get(write.address)
                        new = self._merge(data, self.get(write.data), self.get(write.enable))
                        data = np.where(same, new, data)
                kept = self.words[read.word]
                after[read.word] = np.where(self.get(read.enable) != 0, data, kept)
            for write in memory.writes:
                self._write(index, self.get(write.address), write)
        for word, value in after.items():
            self.words[word] = value

    def _read(self, memory: int, address: np.ndarray) -> np.ndarray:
        entries = self.memories[memory]
        at = np.broadcast_to(address, self.count).astype(np.int64)
        found = entries[np.arange(self.count), np.minimum(at, entries.shape[1] - 1)]
        return np.where(at < entries.shape[1], found, found.dtype.type(0))

    def _merge(self, old: np.ndarray, new: np.ndarray, enable: np.ndarray) -> np.ndarray:
        return (new & enable) | (old & ~enable)

    def _write(self, memory: int, address: np.ndarray, write: Any) -> None:
        entries = self.memories[memory]
        enable = np.broadcast_to(self.get(write.enable), self.count)
        at = np.broadcast_to(address, self.count).astype(np.int64)
        lanes = np.flatnonzero((enable != 0) & (at < entries.shape[1]))
        if len(lanes):
            new = np.broadcast_to(self.get(write.data), self.count)[lanes]
            old = entries[lanes, at[lanes]]
            entries[lanes, at[lanes]] = self._merge(old, new, enable[lanes])
