"""The systolic array: rows x cols cells, wired to their neighbours."""

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect

from nupes.rtl.cell import ProductWrite, cell_of
from nupes.rtl.config import ArrayConfig
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import LoadBus
from nupes.rtl.isa import Destination

__all__ = ["Array"]


class Array(wiring.Component):
    """Multiply a vector of levels by the resident weights: one vector per cycle.

    A level that reaches row ``r`` in cycle s + r is in ``psums[c]`` in cycle s + rows + c. ``swap``
    moves with the levels. A weight is written to cell (r, c) when bit ``r`` of ``row_load`` was set
    c cycles ago and ``weights[c]`` carries it now. Levels and weights are operands of the cells.
    The product tables of pair cells are written by LOADs, one cycle late.
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
            }
        )
        self.load: wiring.PureInterface
        self.levels: data.View
        self.swap: Signal
        self.weights: data.View
        self.row_load: Signal
        self.psums: data.View
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
        psums: list[Value] = [Signal(signed(config.psum_bits), name="zero")] * config.cols
        for row in range(config.rows):
            level, swap, load = self.levels[row], self.swap[row], self.row_load[row]
            for col in range(config.cols):
                cell = place(m, self.library, f"cell_r{row}_c{col}", cell_of(config), config)
                m.d.comb += [
                    cell.level.eq(level),
                    cell.swap.eq(swap),
                    cell.load.eq(load),
                    cell.weight.eq(self.weights[col]),
                    cell.psum.eq(psums[col]),
                ]
                if table is not None:
                    connect(m, table, cell.table)
                level, swap, load = cell.level_out, cell.swap_out, cell.load_out
                psums[col] = cell.psum_out
        m.d.comb += [self.psums[col].eq(psum) for col, psum in enumerate(psums)]
        return m
