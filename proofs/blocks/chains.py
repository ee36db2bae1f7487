"""Chains of taps: which steps three cells of a column multiply."""

from amaranth.hdl import Const, Mux, Signal, signed

from nupes.arch.chains import CHAIN, band, direct
from nupes.arch.config import ArrayConfig
from nupes.rtl.datapath.array import Array
from nupes.rtl.datapath.chain import Chain
from proofs.harness import Harness
from proofs.parts import past

__all__ = ["array", "chain"]


class Steps:
    """The steps of a chain before the present one: ``before[i]`` is the one ``i + 1`` before, if
    ``known[i]``."""

    def __init__(self, h: Harness, link: object, level: object, label: str, ages: int = 3) -> None:
        m = h.module
        self.before, self.known = [], []
        value, there = level, Const(1)
        for age in range(ages):
            held = Signal.like(level, name=f"step_{label}_{age}", reset_less=True)
            known = Signal(name=f"known_{label}_{age}")
            with m.If(link):
                m.d.sync += [held.eq(value), known.eq(there)]
            value, there = held, known
            self.before.append(held)
            self.known.append(known)


def chain(config: ArrayConfig, row: int, name: str) -> Harness:
    """Claim that the two other cells of a chain multiply the step before, and the one before that,
    if there is a step in the cycle of their partial sum, and else what comes to them.

    Assumed of the array: a bit of ``links`` moves down by one row a cycle, as partial sums do.
    """
    h = Harness(name, 2, "chain")
    dut = Chain(config, row)
    h.drive(dut)
    m, links = h.module, h.inputs["links"]
    for lower in range(1, CHAIN):
        above = past(m, links[lower - 1], 1, f"link_{lower}", reset=True)
        h.assume(links[lower] == above, f"links_move_to_{lower}")
    steps = Steps(h, links[row], dut.level, "here")
    ages = 3 if row == 0 else 2
    for age in range(ages):
        passed = h.probe(f"dut.passed_{age}", dut.level.shape())
        h.claim(f"passed_{age}", ~steps.known[age] | (passed == steps.before[age]))
    # The other rows, and by which of the two ages: the lowest row, then the one nearer to it.
    others = {0: (2, 1), 1: (2, 0), 2: (1, 0)}[row]
    for age, other in enumerate(others):
        operand = dut.operands[age]
        present = links[row] & steps.known[age]
        if other > row:  # its partial sum comes there later
            wanted = past(m, steps.before[age], other - row, f"wanted_{age}")
            asked = past(m, present, other - row, f"asked_{age}", reset=True)
            h.claim(f"operand_{age}", ~asked | (operand == wanted))
        else:  # it was there before
            taken = past(m, operand, row - other, f"taken_{age}")
            h.claim(f"operand_{age}", ~present | (taken == steps.before[age]))
        h.claim(f"other_{age}", links[other] | (operand == dut.others[age]))
    return h


def array(config: ArrayConfig, cycles: int, name: str) -> Harness:
    """Claim for ``cycles`` cycles from reset that a column's sum is that of all products of the
    resident weights and the levels, those of chains with the steps that ``arch.chains`` says.

    Weights are any; they do not change. A sum takes ``rows + cols`` cycles, and a step reaches two
    steps further.
    """
    h = Harness(name, 1, "chains of an array", bound=cycles)
    dut = Array(config)
    h.drive(dut, swap=Const(0, config.rows), row_load=Const(0, config.rows))
    m, link = h.module, h.inputs["link"]
    # Level ``r`` of a step comes ``r`` cycles after its link.
    levels = []
    for row in range(config.rows):
        later = config.rows - 1 - row
        levels.append(past(m, dut.levels[row], later, f"level_{row}"))
    step = past(m, link, config.rows - 1, "step", reset=True)
    begun = past(m, Const(1), config.rows - 1, "begun", reset=True)
    steps = [Steps(h, step, level, f"{row}", 2) for row, level in enumerate(levels)]
    for col in range(config.cols):
        total, known = Signal(signed(config.psum_bits), name=f"total_{col}"), begun
        operands = dict(enumerate(levels))
        for lane in range(config.lanes):
            entry, column = direct(lane, config)
            if column == col:
                for age, row in enumerate(band(lane, config)[1:]):
                    before = steps[entry].before[age]
                    operands[row] = Mux(step, before, operands[row])
                    known = known & (~step | steps[entry].known[age])
        products = [
            h.probe(f"dut.row_{row}.cell_{col}.active", signed(config.cell.weight_bits)) * operand
            for row, operand in operands.items()
        ]
        m.d.comb += total.eq(sum(products, start=Const(0)))
        asked = past(m, known, 1 + col, f"known_{col}", reset=True)
        wanted = past(m, total, 1 + col, f"wanted_{col}")
        h.claim(f"sum_{col}", ~asked | (dut.psums[col] == wanted))
    return h
