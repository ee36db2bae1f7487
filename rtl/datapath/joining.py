"""Edge decoders that also join two digits into a level: the digits side by side plus an offset."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination, entry_bits
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import LoadBus

__all__ = ["JoiningLevels", "JoiningWeights", "Offsets"]


class JoiningLevels(wiring.Component):
    """Look up ``code``, or if ``joined`` add ``lower`` and ``code``, the upper digit, to
    ``offset``; 0 if ``zero``: latency 1 cycle, one operand per cycle.

    What is looked up is that of ``Decoder``, for activations. The sum is made ahead of the
    register, so that the multiplier behind it sees one gate more.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "code": In(config.code_bits),
                "lower": In(config.code_bits),
                "offset": In(signed(config.activation_level_bits)),
                "slot": In(clog2(config.table_slots)),
                "joined": In(1),
                "zero": In(1),
                "level": Out(signed(config.activation_level_bits)),
            }
        )
        self.load: wiring.PureInterface
        self.code: Signal
        self.lower: Signal
        self.offset: Signal
        self.slot: Signal
        self.joined: Signal
        self.zero: Signal
        self.level: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        decoder = place(
            m,
            self.library,
            "decoder",
            Decoder,
            config,
            Destination.ACTIVATION_TABLE,
            config.activation_level_bits,
        )
        connect(m, flipped(self.load), decoder.load)
        total = Signal(config.activation_level_bits)
        m.d.sync += total.eq(0)
        with m.If(self.joined & ~self.zero):
            m.d.sync += total.eq(self.offset + Cat(self.lower, self.code))
        m.d.comb += [
            decoder.code.eq(self.code),
            decoder.slot.eq(self.slot),
            decoder.zero.eq(self.zero | self.joined),
            self.level.eq(decoder.level | total),
        ]
        return m


class JoiningWeights(wiring.Component):
    """Look up ``code``, or if ``joined`` add the digits of the latest ``lower`` cycle and ``code``,
    the upper digit, to entry 0 of the table; 0 if ``zero``: latency 1 cycle.

    What is looked up is that of ``Decoder``, for weights.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "code": In(config.code_bits),
                "slot": In(clog2(config.table_slots)),
                "lower": In(1),
                "joined": In(1),
                "zero": In(1),
                "level": Out(signed(config.cell.weight_bits)),
            }
        )
        self.load: wiring.PureInterface
        self.code: Signal
        self.slot: Signal
        self.lower: Signal
        self.joined: Signal
        self.zero: Signal
        self.level: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, bits = self.config, self.config.cell.weight_bits
        table = Destination.WEIGHT_TABLE
        decoder = place(m, self.library, "decoder", Decoder, config, table, bits)
        connect(m, flipped(self.load), decoder.load)
        kept = Signal(config.code_bits, reset_less=True)
        digits = Signal(min(2 * config.code_bits, bits), reset_less=True)
        with m.If(self.lower):
            m.d.sync += kept.eq(self.code)
        m.d.sync += digits.eq(Mux(self.joined & ~self.zero, Cat(kept, self.code), 0))
        m.d.comb += [
            decoder.code.eq(Mux(self.joined, 0, self.code)),
            decoder.slot.eq(self.slot),
            decoder.zero.eq(self.zero),
            self.level.eq(decoder.level + digits),
        ]
        return m


class Offsets(wiring.Component):
    """Keep entry 0 of every decode table of the activations: ``offset`` is that of ``slot`` one
    cycle later."""

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "slot": In(clog2(config.table_slots)),
                "offset": Out(signed(config.activation_level_bits)),
            }
        )
        self.load: wiring.PureInterface
        self.slot: Signal
        self.offset: Signal
        self.config = config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = signed(self.config.activation_level_bits)
        m.submodules.entries = entries = Memory(shape=shape, depth=self.config.table_slots, init=[])
        read, write = entries.read_port(), entries.write_port()
        table = Destination.ACTIVATION_TABLE
        bits = entry_bits(table, self.config)
        load = self.load
        m.d.comb += [
            read.addr.eq(self.slot),
            read.en.eq(1),
            self.offset.eq(read.data),
            write.addr.eq(load.address[bits:]),
            write.data.eq(load.data),
            write.en.eq(load.valid & (load.destination == table) & (load.address[:bits] == 0)),
        ]
        return m
