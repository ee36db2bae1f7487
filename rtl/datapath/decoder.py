"""The edge decoder: codes become levels here, so that the array sees integers only."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination, entry_bits
from nupes.rtl.interface import LoadBus

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """Look up ``table[slot][code]``, or 0 if ``zero``: latency 1 cycle, one code per cycle.

    The tables are written by LOADs to ``destination``; an entry written in one cycle is read from
    the next cycle on. ``level_bits`` is the width of an entry.
    """

    def __init__(self, config: ArrayConfig, destination: Destination, level_bits: int) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "code": In(config.code_bits),
                "slot": In(clog2(config.table_slots)),
                "zero": In(1),
                "level": Out(signed(level_bits)),
            }
        )
        self.load: wiring.PureInterface
        self.code: Signal
        self.slot: Signal
        self.zero: Signal
        self.level: Signal
        self.destination = destination
        self.depth = config.table_slots << entry_bits(destination, config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Memory(shape=Shape(len(self.level)), depth=self.depth, init=[])
        read, write = table.read_port(), table.write_port()
        zero = Signal(reset_less=True)
        m.d.sync += zero.eq(self.zero)
        m.d.comb += [
            read.addr.eq(Cat(self.code, self.slot)),
            read.en.eq(1),
            self.level.eq(Mux(zero, 0, read.data)),
            write.addr.eq(self.load.address),
            write.data.eq(self.load.data),
            write.en.eq(self.load.valid & (self.load.destination == self.destination)),
        ]
        return m
