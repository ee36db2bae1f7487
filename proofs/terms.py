"""Terms: words as bit vectors of the solver, a netlist unrolled over cycles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitwuzla import Bitwuzla, Kind, Term, TermManager

from proofs.netlist import CONSTANT, Netlist, Part, Vector, Write
from proofs.operators import evaluate, gather, width_of

__all__ = ["State", "Terms", "Unrolling"]


def runs(enable: Vector) -> list[tuple[Part, int, int]]:
    """Return the bits of a vector, each with the position from which on, and how often, it is
    repeated."""
    found: list[tuple[Part, int, int]] = []
    for part in enable:
        for index in range(part.width):
            bit = Part(part.word, part.low + index, 1)
            if part.word == CONSTANT:
                bit = Part(CONSTANT, part.low >> index & 1, 1)
            if found and found[-1][0] == bit:
                found[-1] = (bit, found[-1][1], found[-1][2] + 1)
            else:
                low = found[-1][1] + found[-1][2] if found else 0
                found.append((bit, low, 1))
    return found


class Terms:
    """The algebra of the solver's bit vectors."""

    def __init__(self, manager: TermManager) -> None:
        self.manager = manager
        self.apply = manager.mk_term

    def const(self, value: int, width: int) -> Term:
        return self.manager.mk_bv_value(self.manager.mk_bv_sort(width), value)

    def free(self, width: int, name: str) -> Term:
        """Return a word of any value."""
        return self.manager.mk_const(self.manager.mk_bv_sort(width), name)

    def part(self, word: Term, low: int, width: int, of: int) -> Term:
        return self.apply(Kind.BV_EXTRACT, [word], [low + width - 1, low])

    def concat(self, words: Sequence[tuple[Term, int]]) -> Term:
        return self.apply(Kind.BV_CONCAT, [word for word, _ in reversed(words)])

    def extend(self, word: Term, width: int, to: int, signed: bool) -> Term:
        kind = Kind.BV_SIGN_EXTEND if signed else Kind.BV_ZERO_EXTEND
        return self.apply(kind, [word], [to - width])

    def truth(self, term: Term) -> Term:
        """Return a Boolean as a word of one bit."""
        return self.apply(Kind.ITE, [term, self.const(1, 1), self.const(0, 1)])

    def holds(self, word: Term) -> Term:
        """Return a word of one bit as a Boolean."""
        return self.apply(Kind.EQUAL, [word, self.const(1, 1)])

    def invert(self, word: Term, width: int) -> Term:
        return self.apply(Kind.BV_NOT, [word])

    def both(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_AND, [a, b])

    def either(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_OR, [a, b])

    def differ(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_XOR, [a, b])

    def add(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_ADD, [a, b])

    def subtract(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_SUB, [a, b])

    def multiply(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_MUL, [a, b])

    def shift_left(self, a: Term, amount: Term, width: int) -> Term:
        return self.apply(Kind.BV_SHL, [a, amount])

    def shift_right(self, a: Term, amount: Term, width: int, signed: bool) -> Term:
        return self.apply(Kind.BV_ASHR if signed else Kind.BV_SHR, [a, amount])

    def equal(self, a: Term, b: Term, width: int) -> Term:
        return self.apply(Kind.BV_COMP, [a, b])

    def less(self, a: Term, b: Term, width: int, signed: bool) -> Term:
        return self.truth(self.apply(Kind.BV_SLT if signed else Kind.BV_ULT, [a, b]))

    def choose(self, condition: Term, yes: Term, no: Term, width: int) -> Term:
        return self.apply(Kind.ITE, [self.holds(condition), yes, no])


@dataclass
class State:
    """The registers (by word) and the memories of a netlist in some cycle."""

    words: dict[int, Term]
    memories: list[Term]


class Unrolling:
    """A netlist over terms, cycle by cycle: ``cycles[n]`` has the terms of all words in cycle n.

    The first state is any at all: every register and every memory entry is free.
    """

    def __init__(self, netlist: Netlist, manager: TermManager) -> None:
        self.netlist = netlist
        self.terms = Terms(manager)
        self.rewriter = Bitwuzla(manager)
        self.cycles: list[list[Any]] = []
        self.inputs: list[dict[str, Term]] = []
        self.state = self._any_state()

    def value(self, cycle: int, vector: Vector) -> Term:
        """Return the term of a vector in some cycle."""
        return gather(self.terms, self.cycles[cycle], self.netlist.widths, vector)

    def advance(self, reset: int | None = None, given: Mapping[str, Term] | None = None) -> None:
        """Add a cycle whose inputs are free, but ``rst`` if ``reset`` says what it is, and those
        that are ``given``."""
        netlist, terms = self.netlist, self.terms
        words: list[Any] = [None] * len(netlist.widths)
        cycle = len(self.cycles)
        self.inputs.append({})
        for name, word in netlist.inputs.items():
            if name == "rst" and reset is not None:
                words[word] = terms.const(reset, 1)
            elif given and name in given:
                words[word] = given[name]
            else:
                words[word] = terms.free(netlist.widths[word], f"{name}@{cycle}")
            self.inputs[-1][name] = words[word]
        for word, term in self.state.words.items():
            words[word] = term

        def get(vector: Vector) -> Term:
            return gather(terms, words, netlist.widths, vector)

        for cell in netlist.cells:
            if cell.kind == "$read":
                words[cell.output] = self._read(cell.memory, get(cell.inputs["A"]))
            else:
                width = netlist.widths[cell.output]
                words[cell.output] = evaluate(terms, cell, get, width)
        self.cycles.append(words)
        self.state = self._next(get)

    def _any_state(self) -> State:
        netlist, terms, manager = self.netlist, self.terms, self.terms.manager
        words = {
            register.word: terms.free(netlist.widths[register.word], f"register {register.word}")
            for register in netlist.registers
        }
        memories = []
        for memory in netlist.memories:
            for read in memory.reads:
                words[read.word] = terms.free(memory.width, f"read {memory.name}")
            index = manager.mk_bv_sort(memory.address_bits)
            sort = manager.mk_array_sort(index, manager.mk_bv_sort(memory.width))
            memories.append(manager.mk_const(sort, memory.name))
        return State(words, memories)

    def _read(self, memory: int, address: Term) -> Term:
        """Return an entry; beyond the end it is any value, for which a free array stands."""
        table = self.netlist.memories[memory]
        if not table.writes:
            entries = list(table.init) + [0] * ((1 << table.address_bits) - table.size)
            return self._constant(address, table.address_bits, entries, table.width)
        return self.terms.apply(Kind.ARRAY_SELECT, [self.state.memories[memory], address])

    def _constant(self, address: Term, bits: int, entries: list[int], width: int) -> Term:
        """Return an entry of a constant table: a tree over the bits of the address."""
        terms = self.terms
        values = [terms.const(entry, width) for entry in entries]
        for bit in range(bits):
            high = terms.part(address, bit, 1, bits) if bits > 1 else address
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [a if a == b else terms.choose(high, b, a, width) for a, b in pairs]
        return values[0]

    def _next(self, get: Any) -> State:
        netlist, terms, state = self.netlist, self.terms, self.state
        words = {register.word: get(register.data) for register in netlist.registers}
        memories = []
        for index, memory in enumerate(netlist.memories):
            array, bits = state.memories[index], memory.address_bits
            for read in memory.reads:
                address = get(read.address)
                data = self._read(index, address)
                for write, transparent in zip(memory.writes, read.transparent, strict=True):
                    if transparent:
                        same = terms.equal(address, get(write.address), bits)
                        new = self._merge(data, write, get)
                        data = terms.choose(same, new, data, memory.width)
                kept = state.words[read.word]
                words[read.word] = terms.choose(get(read.enable), data, kept, memory.width)
            for write in memory.writes:
                if self.rewriter.simplify_term(get(write.enable)).is_bv_value_zero():
                    continue
                address = get(write.address)
                old = terms.apply(Kind.ARRAY_SELECT, [array, address])
                after = self._merge(old, write, get)
                if memory.size < 1 << bits:
                    exists = terms.less(address, terms.const(memory.size, bits), bits, False)
                    after = terms.choose(exists, after, old, memory.width)
                array = terms.apply(Kind.ARRAY_STORE, [array, address, after])
            memories.append(array)
        return State(words, memories)

    def _merge(self, old: Term, write: Write, get: Any) -> Term:
        """Return an entry after a write: the data's bits that are enabled, else the old ones."""
        terms, width, new, parts = self.terms, width_of(write.data), get(write.data), []
        for enable, low, bits in runs(write.enable):
            if bits == width:
                return terms.choose(get((enable,)), new, old, width)
            pair = [terms.part(word, low, bits, width) for word in (new, old)]
            parts.append((terms.choose(get((enable,)), *pair, bits), bits))
        return terms.concat(parts)
