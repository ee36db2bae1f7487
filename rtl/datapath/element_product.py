"""The product of a lane: a partial sum times the level of a second stored tensor."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig

__all__ = ["ElementProduct"]


class ElementProduct(wiring.Component):
    """Compute ``psum * level`` if ``multiply``, else ``psum``: latency 1 cycle, one per cycle.

    A partial sum that is multiplied is a level or one of its digits: what is beyond
    ``factor_bits`` is ignored.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.factor_bits = min(config.factor_bits, config.psum_bits)
        self.level_bits = config.activation_level_bits
        product_bits = self.factor_bits + config.activation_level_bits
        super().__init__(
            {
                "psum": In(signed(config.psum_bits)),
                "level": In(signed(config.residual_level_bits)),
                "multiply": In(1),
                "addend": Out(signed(max(config.psum_bits, product_bits))),
            }
        )
        self.psum: Signal
        self.level: Signal
        self.multiply: Signal
        self.addend: Signal

    def elaborate(self, platform: object) -> Module:
        m = Module()
        addend = Signal.like(self.addend, reset_less=True)
        level = self.level[: self.level_bits].as_signed()  # of codes
        factor = self.psum[: self.factor_bits].as_signed()
        m.d.sync += addend.eq(Mux(self.multiply, factor * level, self.psum))
        m.d.comb += self.addend.eq(addend)
        return m
