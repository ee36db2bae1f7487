"""The processing element: one multiply-accumulate with a double-buffered weight."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Cell"]


class Cell(wiring.Component):
    """Compute ``psum_out = psum + weight * level``: latency 1 cycle, one product per cycle.

    ``level`` and ``swap`` move right through one register, partial sums move down through one.
    ``load`` writes ``weight`` to the shadow register and moves right as well; the column's weight
    bus must carry the weight in the cycle in which ``load`` is at the cell. With ``swap`` the
    shadow weight is used in the same cycle and becomes the active one.

    Operands are opaque bits to everything but ``product``: another kind of cell overrides that.
    """

    def __init__(self, weight_bits: int, level_bits: int, psum_bits: int) -> None:
        super().__init__(
            {
                "level": In(signed(level_bits)),
                "swap": In(1),
                "load": In(1),
                "weight": In(signed(weight_bits)),
                "psum": In(signed(psum_bits)),
                "level_out": Out(signed(level_bits)),
                "swap_out": Out(1),
                "load_out": Out(1),
                "psum_out": Out(signed(psum_bits)),
            }
        )
        self.level: Signal
        self.swap: Signal
        self.load: Signal
        self.weight: Signal
        self.psum: Signal
        self.level_out: Signal
        self.swap_out: Signal
        self.load_out: Signal
        self.psum_out: Signal

    def product(self, weight: Value, level: Value) -> Value:
        """Return the product of two operands as a signed value; 0 if the level is 0."""
        return weight * level

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shadow = Signal.like(self.weight, reset_less=True)
        active = Signal.like(self.weight, reset_less=True)
        level = Signal.like(self.level, reset_less=True)
        psum = Signal.like(self.psum, reset_less=True)
        weight = Signal.like(self.weight)
        m.d.comb += [
            weight.eq(Mux(self.swap, shadow, active)),
            self.level_out.eq(level),
            self.psum_out.eq(psum),
        ]
        m.d.sync += [
            active.eq(weight),
            level.eq(self.level),
            psum.eq(self.psum + self.product(weight, self.level)),
            self.swap_out.eq(self.swap),
            self.load_out.eq(self.load),
        ]
        with m.If(self.load):
            m.d.sync += shadow.eq(self.weight)
        return m
