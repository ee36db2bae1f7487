"""The residual of a lane: a stored tensor's level, and its term in units of ``y``."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination
from nupes.model.arithmetic import Y_RANGE
from nupes.rtl.datapath.decoder import Decoder
from nupes.rtl.interface import LoadBus, ShiftEntry

__all__ = ["ResidualTerm"]

LOWEST = Y_RANGE[0]


class ResidualTerm(wiring.Component):
    """Compute ``(level * mult + 2**(shift - 1)) >> shift``: latency 3 cycles, one per cycle.

    ``model.arithmetic.residual_term`` of the level that the joined digits stand for: one digit is
    looked up in the lane's own tables, several (``linear``) are the level's distance from
    ``offset``; those of a ``wide`` tensor (in arrays with attention) are ``y + 32768``. ``level``
    is there after 1 cycle. A mult of 0 makes the term 0 with any digits and any shift.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "joined": In(config.residual_bits),
                "wide": In(int(config.attention)),
                "parameters": In(ShiftEntry()),
                "level": Out(signed(config.residual_level_bits)),
                "term": Out(signed(config.residual_level_bits + 16)),
            }
        )
        self.load: wiring.PureInterface
        self.joined: Signal
        self.wide: Signal
        self.parameters: data.View
        self.level: Signal
        self.term: Signal
        self.config = config
        self.level_bits = config.residual_level_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = Decoder(
            self.config, Destination.RESIDUAL_TABLE, self.config.activation_level_bits
        )
        connect(m, flipped(self.load), decoder.load)

        wide = self.wide if self.config.attention else Const(0)

        # Look up. A sum of digits and offset is a level, so it fits the level's width.
        linear = Signal(reset_less=True)
        straight = Signal(signed(self.level_bits), reset_less=True)
        mult = Signal(16, reset_less=True)
        shift_1 = Signal(5, reset_less=True)
        m.d.comb += [
            decoder.code.eq(self.joined),
            decoder.slot.eq(self.parameters.residual_slot[: clog2(self.config.table_slots)]),
        ]
        m.d.sync += [
            linear.eq(self.parameters.linear | wide),
            straight.eq(self.joined + Mux(wide, LOWEST, self.parameters.residual_offset)),
            mult.eq(self.parameters.residual_mult),
            shift_1.eq(self.parameters.residual_shift),
        ]

        # Multiply and add half of the divisor.
        scaled = Signal(signed(33), reset_less=True)
        shift_2 = Signal(5, reset_less=True)
        m.d.comb += self.level.eq(Mux(linear, straight, decoder.level))
        m.d.sync += [
            scaled.eq(self.level * mult + ((Const(1) << shift_1) >> 1)),
            shift_2.eq(shift_1),
        ]

        # Shift.
        term = Signal.like(self.term, reset_less=True)
        m.d.sync += term.eq(scaled >> shift_2)
        m.d.comb += self.term.eq(term)
        return m
