"""The requantizer of a lane: a 32-bit accumulator becomes a 16-bit ``y``."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.model.arithmetic import Y_RANGE
from nupes.rtl.interface import ScaleEntry

__all__ = ["Requantizer"]


class Requantizer(wiring.Component):
    """Compute ``sat16(((total * mult + bias) >> shift) + term)``: latency 4 cycles, one per cycle.

    ``model.arithmetic.requantize`` on every input. ``total``, ``scale`` and ``shift`` arrive in one
    cycle, ``term`` three cycles later. In arrays with attention ``negative`` turns the mult's sign.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "total": In(signed(32 if config.attention else config.acc_bits)),
                "scale": In(ScaleEntry()),
                "shift": In(5),
                "negative": In(int(config.attention)),
                "term": In(signed(config.residual_level_bits + 16)),
                "y": Out(signed(16)),
            }
        )
        self.total: Signal
        self.scale: data.View
        self.negative: Signal
        self.shift: Signal
        self.term: Signal
        self.y: Signal

    def elaborate(self, platform: object) -> Module:
        m = Module()
        mult = self.scale.mult
        if len(self.negative):
            mult = Mux(self.negative, -mult, mult)
        product = Signal(signed(len(self.total) + 16), reset_less=True)
        bias = Signal(signed(48), reset_less=True)
        shift_1 = Signal(5, reset_less=True)
        m.d.sync += [
            product.eq(self.total * mult),
            bias.eq(self.scale.bias),
            shift_1.eq(self.shift),
        ]

        biased = Signal(signed(49), reset_less=True)
        shift_2 = Signal(5, reset_less=True)
        m.d.sync += [biased.eq(product + bias), shift_2.eq(shift_1)]

        shifted = Signal(signed(49), reset_less=True)
        m.d.sync += shifted.eq(biased >> shift_2)

        low, high = Y_RANGE
        result = Signal(signed(50))
        y = Signal(signed(16), reset_less=True)
        m.d.comb += [result.eq(shifted + self.term), self.y.eq(y)]
        m.d.sync += y.eq(
            Mux(result < low, Const(low, 16), Mux(result > high, Const(high, 16), result[:16]))
        )
        return m
