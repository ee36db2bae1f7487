"""The two feeders at the edges of the array: codes in, skewed levels and weights out."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.delays import Skew
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import FeedControl, LoadBus, WeightBus

__all__ = ["RowFeeder", "WeightFeeder"]


class RowFeeder(wiring.Component):
    """Bring one activation word per cycle to the rows of the array, row ``r`` delayed by ``r``.

    ``control`` arrives in cycle t, ``word`` in t + 1; ``levels[r]`` (operands of the cells) belongs
    to it in cycle t + 2 + r, and bit ``r`` of ``swap`` one cycle before. A structural zero, and
    every row that the tile does not carry, is operand 0 whatever the tables hold. What is delayed
    are codes; the control moves from row to row.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        level = signed(config.level_entry_bits)
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "control": In(FeedControl(config)),
                "word": In(data.ArrayLayout(Shape(config.code_bits), config.lanes)),
                "levels": Out(data.ArrayLayout(level, config.rows)),
                "swap": Out(config.rows),
            }
        )
        self.load: wiring.PureInterface
        self.control: data.View
        self.word: data.View
        self.levels: data.View
        self.swap: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, rows = self.config, self.config.rows
        control = Signal(FeedControl(config), name="control_0")
        m.d.sync += control.eq(self.control)

        m.submodules.skew = skew = Skew(config.code_bits, rows)
        slices = config.lanes // rows
        parts = [self.word.as_value().word_select(i, len(skew.i.as_value())) for i in range(slices)]
        chosen = parts[0]
        for index, part in enumerate(parts[1:], start=1):
            chosen = Mux(control.slice == index, part, chosen)
        m.d.comb += skew.i.eq(chosen)

        for row in range(rows):
            decoder = place(
                m,
                self.library,
                f"decoder_{row}",
                Decoder,
                config,
                Destination.ACTIVATION_TABLE,
                config.level_entry_bits,
            )
            connect(m, flipped(self.load), decoder.load)
            following = Signal(FeedControl(config), name=f"control_{row + 1}")
            m.d.sync += following.eq(control)
            m.d.comb += [
                decoder.code.eq(skew.o[row]),
                decoder.slot.eq(control.slot),
                decoder.zero.eq(control.pad | (control.rows <= row)),
                self.levels[row].eq(decoder.level),
                self.swap[row].eq(control.swap),
            ]
            control = following
        return m


class WeightFeeder(wiring.Component):
    """Bring one weight row per cycle to the columns of the array, column ``c`` delayed by ``c``.

    A row given in cycle f is on ``weights[c]`` in cycle f + 1 + c; its bit of ``row_load`` is set
    in cycle f + 1, for column 0. A mask bit of 0 makes the weight 0 whatever the tables hold.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        weight = signed(config.cell.weight_bits)
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "row": In(WeightBus(config)),
                "weights": Out(data.ArrayLayout(weight, config.cols)),
                "row_load": Out(config.rows),
            }
        )
        self.load: wiring.PureInterface
        self.row: wiring.PureInterface
        self.weights: data.View
        self.row_load: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, cols = self.config, self.config.cols
        enable = Signal(config.rows)
        m.d.comb += enable.eq(self.row.valid << self.row.row)
        m.d.sync += self.row_load.eq(enable)

        m.submodules.skew = skew = Skew(config.code_bits + 1, cols)
        slot = self.row.slot
        for col in range(cols):
            decoder = place(
                m,
                self.library,
                f"decoder_{col}",
                Decoder,
                config,
                Destination.WEIGHT_TABLE,
                config.cell.weight_bits,
            )
            connect(m, flipped(self.load), decoder.load)
            m.d.comb += [
                skew.i[col].eq(Cat(self.row.codes[col], ~self.row.mask[col])),
                Cat(decoder.code, decoder.zero).eq(skew.o[col]),
                decoder.slot.eq(slot),
                self.weights[col].eq(decoder.level),
            ]
            following = Signal(clog2(config.table_slots), name=f"slot_{col + 1}", reset_less=True)
            m.d.sync += following.eq(slot)
            slot = following
        return m
