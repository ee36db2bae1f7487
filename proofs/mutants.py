"""Mutants: a block with one bit wrong, and whether its specification notices.

As Yosys's ``mutate`` does: one bit of one input of a cell, or of what a register takes, is inverted
or stuck. All mutants of a block are simulated side by side against its claims; what they survive
is judged by the solver.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from bitwuzla import Bitwuzla, Kind, Result, TermManager

from proofs.harness import Harness
from proofs.induction import ProofError, prove
from proofs.netlist import CONSTANT, Cell, Netlist, Part, Vector
from proofs.operators import width_of
from proofs.terms import State, Unrolling
from proofs.vectors import MUTATE, Simulation, as_word

__all__ = ["Mutant", "Verdict", "equivalent", "judge", "mutants_of", "mutated", "owned", "simulate"]

MODES = ("inv", "const0", "const1")

STREAMS = 24
"""Random sequences of inputs for each mutant."""

CYCLES = 160
"""Cycles of each of them."""


@dataclass(frozen=True)
class Mutant:
    """One wrong bit: ``port`` of cell ``index``, or of register ``index`` if ``port`` is empty."""

    index: int
    port: str
    bit: int
    mode: str


@dataclass(frozen=True)
class Verdict:
    """What became of a block's mutants: ``simulated`` away, ``proven`` wrong, ``equal`` to the
    block by proof; the ``survivors`` are neither."""

    sites: int
    mutants: int
    simulated: int
    proven: int
    equal: int
    survivors: tuple[Mutant, ...]

    @property
    def score(self) -> float:
        """Share of the mutants that are not equal to the block that were found."""
        wrong = self.mutants - self.equal
        return (self.simulated + self.proven) / wrong if wrong else 1.0


def mutants_of(netlist: Netlist, count: int, seed: int = 0) -> tuple[int, list[Mutant]]:
    """Return how many mutants of the block (``dut``) there are, and at most ``count`` of them."""
    every = [
        Mutant(index, port, bit, mode)
        for index, cell in enumerate(netlist.cells)
        if owned(cell.name)
        for port, vector in cell.inputs.items()
        for bit in range(width_of(vector))
        for mode in MODES
    ]
    every += [
        Mutant(index, "", bit, mode)
        for index, register in enumerate(netlist.registers)
        if owned(register.name)
        for bit in range(width_of(register.data))
        for mode in MODES
    ]
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return len(every), [every[index] for index in sorted(chosen)]


def owned(name: str) -> bool:
    """Return whether a cell is one of the block, by its name."""
    return "dut." in name


def source(netlist: Netlist, mutant: Mutant) -> Vector:
    """Return the vector that a mutant changes."""
    if mutant.port:
        return netlist.cells[mutant.index].inputs[mutant.port]
    return netlist.registers[mutant.index].data


def redirect(
    netlist: Netlist, changes: dict[tuple[int, str], tuple[list[Cell], Vector]]
) -> Netlist:
    """Return a netlist in which some inputs are others, which added cells compute."""
    cells: list[Cell] = []
    for index, cell in enumerate(netlist.cells):
        inputs = dict(cell.inputs)
        for port in cell.inputs:
            if (index, port) in changes:
                added, inputs[port] = changes[index, port]
                cells += added
        cells.append(replace(cell, inputs=inputs))
    registers = []
    for index, register in enumerate(netlist.registers):
        if (index, "") in changes:
            added, vector = changes[index, ""]
            cells += added
            register = replace(register, data=vector)
        registers.append(register)
    return replace(netlist, cells=cells, registers=registers)


def mutated(netlist: Netlist, mutant: Mutant) -> Netlist:
    """Return the netlist of one mutant."""
    vector, widths = source(netlist, mutant), list(netlist.widths)
    bits: list[Part] = []
    for part in vector:
        low = part.low
        for at in range(part.width):
            constant = Part(CONSTANT, low >> at & 1, 1)
            bits.append(constant if part.word == CONSTANT else Part(part.word, low + at, 1))
    added = []
    if mutant.mode == "inv":
        widths.append(1)
        added = [Cell("$not", {"A": (bits[mutant.bit],)}, len(widths) - 1)]
        bits[mutant.bit] = Part(len(widths) - 1, 0, 1)
    else:
        bits[mutant.bit] = Part(CONSTANT, int(mutant.mode == "const1"), 1)
    changed = redirect(netlist, {(mutant.index, mutant.port): (added, tuple(bits))})
    return replace(changed, widths=widths)


def side_by_side(netlist: Netlist, mutants: Sequence[Mutant]) -> Simulation:
    """Return a simulation of the block and of all its mutants: ``STREAMS`` vectors for each."""
    widths, changes, places = list(netlist.widths), {}, {}
    for number, mutant in enumerate(mutants, start=1):
        key = mutant.index, mutant.port
        vector = source(netlist, mutant)
        if key not in changes:
            widths.append(width_of(vector))
            word = len(widths) - 1
            added = [Cell(MUTATE, {"A": vector}, word)]
            changes[key] = added, (Part(word, 0, widths[word]),)
            places[word] = []
        places[changes[key][1][0].word].append((number, mutant))
    changed = replace(redirect(netlist, changes), widths=widths)
    simulation = Simulation(changed, STREAMS * (len(mutants) + 1))
    for word, here in places.items():
        width = widths[word]
        ones = (1 << width) - 1
        turn, keep, fix = (np.array([value] * simulation.count, object) for value in (0, ones, 0))
        for number, mutant in here:
            lanes = slice(number * STREAMS, (number + 1) * STREAMS)
            bit = 1 << mutant.bit
            turn[lanes] = bit if mutant.mode == "inv" else 0
            keep[lanes] = ones if mutant.mode == "inv" else ones ^ bit
            fix[lanes] = bit if mutant.mode == "const1" else 0
        simulation.masks[word] = as_word(turn, width), as_word(keep, width), as_word(fix, width)
    return simulation


def draw(rng: np.random.Generator, width: int, count: int) -> np.ndarray:
    """Return random words: any, few ones, small ones, or extremes."""
    kinds = rng.integers(0, 5, count)
    ones = (1 << width) - 1
    words = []
    for kind in kinds:
        word = int.from_bytes(rng.bytes((width + 7) // 8), "little") & ones
        other = int.from_bytes(rng.bytes((width + 7) // 8), "little")
        if kind == 1:
            word &= other
        elif kind == 2:
            word &= (1 << int(rng.integers(1, width + 1))) - 1
        elif kind == 3:
            word = int(rng.choice([0, 1, 2, 3])) & ones
        elif kind == 4:
            word ^= ones if rng.integers(2) else (ones >> 1 if width > 1 else 0)
        words.append(word)
    return as_word(words, width)


def simulate(harness: Harness, netlist: Netlist, mutants: Sequence[Mutant], seed: int) -> set[int]:
    """Return the indices of the mutants of which a claim fails under random inputs.

    Inputs against which the block itself makes an assumption fail are drawn again.
    """
    rng = np.random.default_rng(seed)
    whole, alone = side_by_side(netlist, mutants), Simulation(netlist, STREAMS)
    for register in netlist.registers:
        width = netlist.widths[register.word]
        if register.data == (Part(register.word, 0, width),):  # any value, but always the same
            start = draw(rng, width, STREAMS)
            alone.words[register.word] = start
            whole.words[register.word] = np.tile(start, len(mutants) + 1)
    alive = np.ones(whole.count, bool)
    dead = np.zeros(whole.count, bool)
    names = [name for name in netlist.inputs if name not in ("clk", "rst")]
    for cycle in range(CYCLES):
        inputs = {name: draw(rng, netlist.widths[netlist.inputs[name]], STREAMS) for name in names}
        inputs["rst"] = as_word([int(cycle == 0)] * STREAMS, 1)
        wrong = np.zeros(STREAMS, bool)
        for _ in range(12):
            alone.settle(inputs)
            wrong = ~np.logical_and.reduce(
                [alone.output(name) != 0 for name in harness.assumptions] or [~wrong]
            ) & np.ones(STREAMS, bool)  # fmt: skip
            if cycle == 0 or not wrong.any():
                break
            for name in names:
                again = draw(rng, netlist.widths[netlist.inputs[name]], STREAMS)
                inputs[name] = np.where(wrong & (rng.random(STREAMS) < 0.7), again, inputs[name])
        whole.settle({name: np.tile(value, len(mutants) + 1) for name, value in inputs.items()})
        if cycle:
            for name in harness.assumptions:
                alive &= whole.output(name) != 0
            for name in harness.claims:
                dead |= alive & (whole.output(name) == 0)
        alone.tick()
        whole.tick()
    found = dead.reshape(-1, STREAMS).any(axis=1)
    assert not found[0], f"{harness.name}: the block itself must keep its claims"
    return set(np.flatnonzero(found[1:]).tolist())


def equivalent(netlist: Netlist, other: Netlist) -> bool:
    """Return whether two netlists of the same registers do the same: from any state that they
    share, all that goes out and every next state are equal."""
    manager = TermManager()
    first, second = Unrolling(netlist, manager), Unrolling(other, manager)
    second.state = State(dict(first.state.words), list(first.state.memories))
    first.advance(reset=0)
    second.advance(reset=0, given=first.inputs[0])
    pairs = [
        (first.value(0, vector), second.value(0, other.outputs[name]))
        for name, vector in netlist.outputs.items()
    ]
    pairs += [(term, second.state.words[word]) for word, term in first.state.words.items()]
    pairs += list(zip(first.state.memories, second.state.memories, strict=True))
    solver = Bitwuzla(manager)
    different = [manager.mk_term(Kind.DISTINCT, list(pair)) for pair in pairs if pair[0] != pair[1]]
    if not different:
        return True
    any_of = different[0] if len(different) == 1 else manager.mk_term(Kind.OR, different)
    solver.assert_formula(any_of)
    return solver.check_sat() == Result.UNSAT


def judge(harness: Harness, netlist: Netlist, count: int, seed: int = 0) -> Verdict:
    """Return what becomes of at most ``count`` mutants of a block."""
    sites, mutants = mutants_of(netlist, count, seed)
    simulated = simulate(harness, netlist, mutants, seed)
    tally: Counter[str] = Counter()
    survivors = []
    for index, mutant in enumerate(mutants):
        if index in simulated:
            continue
        other = mutated(netlist, mutant)
        if equivalent(netlist, other):
            tally["equal"] += 1
            continue
        try:
            prove(harness, other)
            survivors.append(mutant)
        except ProofError:
            tally["proven"] += 1
    return Verdict(
        sites, len(mutants), len(simulated), tally["proven"], tally["equal"], tuple(survivors)
    )
