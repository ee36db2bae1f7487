"""The two feeders at the edges of the array: codes in, skewed levels and weights out."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.datapath.delays import Skew
from nupes.rtl.datapath.joining import JoiningLevels, JoiningWeights, Offsets
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import FeedControl, LoadBus, WeightBus

__all__ = ["RowFeeder", "WeightFeeder"]


class RowFeeder(wiring.Component):
    """Bring one activation word per cycle to the rows of the array, row ``r`` delayed by ``r``.

    ``control`` arrives in cycle t, ``word`` in t + 1; ``levels[r]`` (operands of the cells) belongs
    to it in cycle t + 2 + r, and bit ``r`` of ``swap`` one cycle before. A structural zero, and
    every row that the tile does not carry, is operand 0 whatever the tables hold. What is delayed
    are codes; the control moves from row to row. In arrays that join planes ``lower`` is a second
    word in t + 1, the lower digits of a word whose tile is ``joined``.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        level = signed(config.level_entry_bits)
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "control": In(FeedControl(config)),
                "word": In(data.ArrayLayout(Shape(config.code_bits), config.lanes)),
                "lower": In(data.ArrayLayout(config.code_bits, config.lanes * config.joins)),
                "levels": Out(data.ArrayLayout(level, config.rows)),
                "swap": Out(config.rows),
            }
        )
        self.load: wiring.PureInterface
        self.control: data.View
        self.word: data.View
        self.lower: data.View
        self.levels: data.View
        self.swap: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, rows = self.config, self.config.rows
        control = Signal(FeedControl(config), name="control_0")
        m.d.sync += control.eq(self.control)

        upper = self._skewed(m, "skew", self.word.as_value(), control.slice)
        lower, offset = upper, Const(0)
        if config.joins:
            lower = self._skewed(m, "lower_skew", self.lower.as_value(), control.slice)
            m.submodules.offsets = offsets = Offsets(config)
            connect(m, flipped(self.load), offsets.load)
            m.d.comb += offsets.slot.eq(self.control.slot)
            offset = offsets.offset

        for row in range(rows):
            decoder = self._decoder(m, f"decoder_{row}")
            connect(m, flipped(self.load), decoder.load)
            following = Signal(FeedControl(config), name=f"control_{row + 1}")
            m.d.sync += following.eq(control)
            if config.joins:
                after = Signal.like(decoder.offset, name=f"offset_{row + 1}", reset_less=True)
                m.d.sync += after.eq(offset)
                m.d.comb += [
                    decoder.joined.eq(control.joined),
                    decoder.lower.eq(lower[row]),
                    decoder.offset.eq(offset),
                ]
                offset = after
            m.d.comb += [
                decoder.code.eq(upper[row]),
                decoder.slot.eq(control.slot),
                decoder.zero.eq(control.pad | (control.rows <= row)),
                self.levels[row].eq(decoder.level),
                self.swap[row].eq(control.swap),
            ]
            control = following
        return m

    def _skewed(self, m: Module, name: str, word: Value, index: Value) -> data.View:
        """Return the codes of slice ``index`` of a word, each for its row in its cycle."""
        m.submodules[name] = skew = Skew(self.config.code_bits, self.config.rows)
        slices = self.config.lanes // self.config.rows
        parts = [word.word_select(i, len(skew.i.as_value())) for i in range(slices)]
        chosen = parts[0]
        for number, part in enumerate(parts[1:], start=1):
            chosen = Mux(index == number, part, chosen)
        m.d.comb += skew.i.eq(chosen)
        return skew.o

    def _decoder(self, m: Module, name: str) -> Any:
        """Return the decoder of a row."""
        config, table = self.config, Destination.ACTIVATION_TABLE
        if config.joins:
            return place(m, self.library, name, JoiningLevels, config, self.library)
        return place(m, self.library, name, Decoder, config, table, config.level_entry_bits)


class WeightFeeder(wiring.Component):
    """Bring one weight row per cycle to the columns of the array, column ``c`` delayed by ``c``.

    A row given in cycle f is on ``weights[c]`` in cycle f + 1 + c; its bit of ``row_load`` is set
    in cycle f + 1, for column 0. A mask bit of 0 makes the weight 0 whatever the tables hold. In
    arrays that join weights, the lower digits of a row come in an earlier cycle.
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
        slot, halves = self.row.slot, Const(0)
        if config.joins_weights:
            halves = Cat(self.row.lower, self.row.joined)
        for col in range(cols):
            decoder = self._decoder(m, f"decoder_{col}")
            connect(m, flipped(self.load), decoder.load)
            if config.joins_weights:
                after = Signal(2, name=f"halves_{col + 1}")
                m.d.sync += after.eq(halves)
                m.d.comb += Cat(decoder.lower, decoder.joined).eq(halves)
                halves = after
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

    def _decoder(self, m: Module, name: str) -> Any:
        """Return the decoder of a column."""
        config, table = self.config, Destination.WEIGHT_TABLE
        if config.joins_weights:
            return place(m, self.library, name, JoiningWeights, config, self.library)
        return place(m, self.library, name, Decoder, config, table, config.cell.weight_bits)
