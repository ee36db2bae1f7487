"""The corner turn: words come in as columns and leave as rows."""

from collections.abc import Sequence
from itertools import pairwise

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CornerTurn"]


class CornerTurn(wiring.Component):
    """Keep ``cols`` columns of ``rows`` codes.

    ``fill`` takes ``column`` as the last column, and drops the first one; ``drain`` drops row 0.
    ``row`` is row 0, as registers have it. One of them in a cycle. So ``cols`` columns filled in
    follow one another in ``row``, and ``drain`` goes on to the next row.
    """

    fill: Signal
    column: data.View
    drain: Signal
    row: data.View

    def __init__(self, rows: int, cols: int, code_bits: int) -> None:
        self.rows = rows
        super().__init__(
            {
                "fill": In(1),
                "column": In(data.ArrayLayout(code_bits, rows)),
                "drain": In(1),
                "row": Out(data.ArrayLayout(code_bits, cols)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, bits = len(self.row.as_value()), len(self.column[0])
        grid: Sequence[Signal] = [
            Signal(width, name=f"row_{row}", reset_less=True) for row in range(self.rows)
        ]
        with m.If(self.fill):
            m.d.sync += [
                line.eq(Cat(line, self.column[row])[bits:]) for row, line in enumerate(grid)
            ]
        with m.Elif(self.drain):
            m.d.sync += [line.eq(after) for line, after in pairwise(grid)]
        m.d.comb += self.row.as_value().eq(grid[0])
        return m
