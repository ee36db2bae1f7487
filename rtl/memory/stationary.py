"""The stationary reader: weights of a tile from the activation memory."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import ADDRESS_BITS
from nupes.rtl.datapath.corner_turn import CornerTurn
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import WeightBus
from nupes.rtl.memory.activation import ReadPort

__all__ = ["StationaryReader"]


class StationaryReader(wiring.Component):
    """Read ``rows`` words and give each as a row of weights, or ``cols`` words as columns and give
    ``rows`` rows.

    ``start`` in cycle d: words are read in d + 1, d + 2 and so on, one a cycle, ``step`` apart.
    Rows are at ``weights`` from d + 2 on, or if ``transposed`` from d + ``cols`` + 2 on, one a
    cycle. ``last`` is high with the last one; a tile has at least one. ``busy`` says that
    ``memory`` is used. The inputs keep their values from ``start`` until ``last``.
    """

    start: Signal
    address: Signal
    step: Signal
    rows: Signal
    slice: Signal
    slot: Signal
    transposed: Signal
    memory: wiring.PureInterface
    weights: wiring.PureInterface
    busy: Signal
    last: Signal

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.config = config
        self.library = library
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "step": In(ADDRESS_BITS),
                "rows": In(7),
                "slice": In(4),
                "slot": In(clog2(config.table_slots)),
                "transposed": In(1),
                "memory": Out(ReadPort(config)),
                "weights": Out(WeightBus(config)),
                "busy": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        sizes = config.rows, config.cols, config.code_bits
        turn = place(m, self.library, "turn", CornerTurn, *sizes)
        left = Signal(8)  # words to read
        address = Signal(ADDRESS_BITS)
        arrived = Signal()  # a word is there
        row = Signal(7)
        draining = Signal()
        with m.If(self.start):
            m.d.sync += [
                left.eq(Mux(self.transposed, config.cols, self.rows)),
                address.eq(self.address),
                row.eq(0),
            ]
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), address.eq(address + self.step)]
        word = self.memory.data.as_value()
        m.d.sync += arrived.eq(self.busy)
        m.d.comb += [
            self.busy.eq(left != 0),
            self.memory.address.eq(address),
            turn.fill.eq(arrived & self.transposed),
            turn.column.as_value().eq(part(word, self.slice, config.rows * config.code_bits)),
            turn.drain.eq(draining),
            self.weights.valid.eq(Mux(self.transposed, draining, arrived)),
            self.weights.row.eq(row),
            self.weights.codes.as_value().eq(
                Mux(
                    self.transposed,
                    turn.row.as_value(),
                    part(word, self.slice, config.cols * config.code_bits),
                )
            ),
            self.weights.mask.eq(~0),
            self.weights.slot.eq(self.slot),
            self.last.eq(self.weights.valid & (row + 1 == self.rows)),
        ]
        with m.If(self.weights.valid):
            m.d.sync += row.eq(row + 1)
        with m.If(arrived & (left == 0) & self.transposed):
            m.d.sync += draining.eq(1)
        with m.If(self.last):
            m.d.sync += draining.eq(0)
        return m


def part(word: Value, index: Value, width: int) -> Value:
    """Return part ``index`` of a word, of so many bits."""
    return word.word_select(index, width) if len(word) > width else word
