"""The systolic array: rows of cells, wired to their neighbours."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.chains import CHAIN, band, direct
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.rtl.datapath.cell import ProductWrite
from nupes.rtl.datapath.chain import Chain
from nupes.rtl.datapath.kinds import cell_of
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import LoadBus

__all__ = ["Array", "Row"]


class Row(wiring.Component):
    """Add a row's products to the partial sums from above: ``psums_out`` one cycle later.

    ``level``, ``swap`` and ``load`` are those of column 0 and move on by one column a cycle;
    ``weights``, ``psums`` and ``psums_out`` are the bits of all columns side by side, column 0
    lowest: as vectors without structure, whose Verilog is short. In arrays with chains ``levels``
    are those that come to each cell, and ``operands`` what it multiplies.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        table = {"table": In(ProductWrite(config))} if config.mac == "pair" else {}
        level_bits = config.cols * config.level_entry_bits
        chains = {"levels": Out(level_bits), "operands": In(level_bits)} if config.chains else {}
        super().__init__(
            {
                "level": In(signed(config.level_entry_bits)),
                "swap": In(1),
                "load": In(1),
                "weights": In(config.cols * config.cell.weight_bits),
                "psums": In(config.cols * config.psum_bits),
                "psums_out": Out(config.cols * config.psum_bits),
                **table,
                **chains,
            }
        )
        self.level: Signal
        self.swap: Signal
        self.load: Signal
        self.weights: Signal
        self.psums: Signal
        self.psums_out: Signal
        self.levels: Signal
        self.operands: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        level, swap, load = self.level, self.swap, self.load
        levels, psums = [], []
        for col in range(self.config.cols):
            cell = place(m, self.library, f"cell_{col}", cell_of(self.config), self.config)
            m.d.comb += [
                cell.level.eq(level),
                cell.swap.eq(swap),
                cell.load.eq(load),
                cell.weight.eq(self.weights.word_select(col, len(cell.weight))),
                cell.psum.eq(self.psums.word_select(col, len(cell.psum))),
            ]
            if self.config.mac == "pair":
                connect(m, flipped(self.table), cell.table)
            if self.config.chains:
                levels.append(level)
                m.d.comb += cell.operand.eq(self.operands.word_select(col, len(level)))
            level, swap, load = cell.level_out, cell.swap_out, cell.load_out
            psums.append(cell.psum_out)
        m.d.comb += self.psums_out.eq(Cat(psums))
        if self.config.chains:
            m.d.comb += self.levels.eq(Cat(levels))
        return m


class Array(wiring.Component):
    """Multiply a vector of levels by the resident weights: one vector per cycle.

    A level that reaches row ``r`` in cycle s + r is in ``psums[c]`` in cycle s + rows + c. Bit
    ``r`` of ``swap`` in cycle s + r - 1 makes the weights of row ``r`` those of that level. A
    weight is written to cell (r, c) when bit ``r`` of ``row_load`` was set c cycles ago and
    ``weights[c]`` carries it now. Levels and weights are operands of the cells. The product tables
    of pair cells are written by LOADs, one cycle late.

    In arrays with chains ``link`` in cycle s says that those levels are a step of a chain: the
    three rows of each lane's ``band`` multiply, in its column, that lane's level of this step and
    of the two steps before it, whenever these were; all other cells what comes to them.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "levels": In(data.ArrayLayout(signed(config.level_entry_bits), config.rows)),
                "swap": In(config.rows),
                "weights": In(data.ArrayLayout(signed(config.cell.weight_bits), config.cols)),
                "row_load": In(config.rows),
                "psums": Out(data.ArrayLayout(signed(config.psum_bits), config.cols)),
                "link": In(int(config.chains)),
            }
        )
        self.load: wiring.PureInterface
        self.levels: data.View
        self.swap: Signal
        self.weights: data.View
        self.row_load: Signal
        self.psums: data.View
        self.link: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        table = ProductWrite(config).create() if config.mac == "pair" else None
        if table is not None:
            m.d.sync += [
                table.valid.eq(self.load.valid & (self.load.destination == Destination.PRODUCT)),
                table.address.eq(self.load.address),
                table.data.eq(self.load.data),
            ]
        psums = Const(0, len(self.psums.as_value()))
        rows = []
        for index in range(config.rows):
            row = place(m, self.library, f"row_{index}", Row, config, self.library)
            m.d.comb += [
                row.level.eq(self.levels[index]),
                row.swap.eq(self.swap[index]),
                row.load.eq(self.row_load[index]),
                row.weights.eq(self.weights.as_value()),
                row.psums.eq(psums),
            ]
            if table is not None:
                connect(m, table, row.table)
            psums = row.psums_out
            rows.append(row)
        m.d.comb += self.psums.as_value().eq(psums)
        if config.chains:
            self.chain(m, rows)
        return m

    def chain(self, m: Module, rows: Sequence[Any]) -> None:
        """Add the chain of every lane: between what comes to the cells and what they multiply."""
        config, bits = self.config, self.config.level_entry_bits
        # Cells of one distance from the corner are where a step is at the same time.
        line = Signal(config.rows + config.cols - 2, name="links")
        links = Cat(self.link, line)
        m.d.sync += line.eq(links)
        levels = [[row.levels.word_select(col, bits) for col in range(config.cols)] for row in rows]
        operands = [list(row) for row in levels]
        for lane in range(config.lanes):
            (row, *others), (_, col) = band(lane, config), direct(lane, config)
            top = min(row, *others)
            chain = place(m, self.library, f"chain_{lane}", Chain, config, row - top)
            m.d.comb += [
                chain.level.eq(levels[row][col]),
                chain.links.eq(links[top + col :][:CHAIN]),
            ]
            for index, other in enumerate(others):
                m.d.comb += chain.others[index].eq(levels[other][col])
                operands[other][col] = chain.operands[index]
        m.d.comb += [
            row.operands.eq(Cat(row_operands))
            for row, row_operands in zip(rows, operands, strict=True)
        ]
