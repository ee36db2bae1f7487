"""A chain: what three neighbouring cells of a column multiply, from the stream of one row."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.chains import CHAIN
from nupes.arch.config import ArrayConfig

__all__ = ["Chain"]

OTHERS = CHAIN - 1
"""Cells of a chain besides the one where the stream comes in."""


class Chain(wiring.Component):
    """Give the cells above or below a cell the steps before the one that it multiplies.

    ``level`` is what comes to that cell, the *direct* one; it is a step of a chain if its bit of
    ``links`` is set. ``operands[i]`` is what the cell that multiplies the step ``i + 1`` before the
    present one takes: that step, if its own bit of ``links`` says so, else ``others[i]``, which
    comes to it from the left. Partial sums move down by one row a cycle, whether there is a step in
    every cycle or not: the bits of ``links`` say where steps are. They belong to the three rows of
    the chain, the highest one first; ``direct`` (0 to 2) says which of them the direct cell is in.

    ``arch.chains.band`` says which cell multiplies which step. Operands are combinational.
    """

    level: Signal
    links: Signal
    others: data.View
    operands: data.View

    def __init__(self, config: ArrayConfig, direct: int) -> None:
        operand = signed(config.level_entry_bits)
        super().__init__(
            {
                "level": In(operand),
                "links": In(CHAIN),
                "others": In(data.ArrayLayout(operand, OTHERS)),
                "operands": Out(data.ArrayLayout(operand, OTHERS)),
            }
        )
        self.direct = direct

    def elaborate(self, platform: object) -> Module:
        m = Module()
        links, level = self.links, self.level
        # The latest steps that have passed the direct cell; a row below meets them later.
        passed = [
            Signal.like(level, name=f"passed_{age}", reset_less=True)
            for age in range(3 if self.direct == 0 else 2)
        ]
        with m.If(links[self.direct]):
            m.d.sync += [new.eq(old) for new, old in zip(passed, [level, *passed], strict=False)]
        if self.direct == 0:
            # Two rows below, the step after the present one may have passed as well.
            before, modes = (Mux(links[1], passed[2], passed[1]), passed[2]), (2, 1)
        elif self.direct == 1:
            # The row above comes first: the present step is still to come.
            before, modes = (passed[1], Mux(links[1], passed[0], passed[1])), (2, 0)
        else:
            following, now = links[1], links[2]
            earlier = Mux(following & now, level, Mux(following | now, *passed))
            before, modes = (Mux(now, level, passed[0]), earlier), (1, 0)
        m.d.comb += [
            self.operands[index].eq(Mux(links[mode], step, self.others[index]))
            for index, (step, mode) in enumerate(zip(before, modes, strict=True))
        ]
        return m
