"""The gearbox: a stream of words of one width becomes a stream of another width, byte for byte."""

from math import gcd

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Gearbox", "Piece"]


class Piece(data.StructLayout):
    """A word of ``bits`` of which the first ``bytes`` bytes count; the others are 0."""

    def __init__(self, bits: int) -> None:
        super().__init__({"data": bits, "bytes": range(bits // 8 + 1)})


class Gearbox(wiring.Component):
    """Turn words of ``in_bits`` into words of ``out_bits``, both multiples of 8, in order.

    Bytes keep their order, least significant first. While ``flush`` is high (nothing may follow)
    what is left becomes a last word with fewer bytes. ``empty``: nothing is held. ``clear`` drops
    what is held.

    ``output`` comes from registers; ``input.ready`` depends on ``output.ready`` alone.

    Latency: one cycle. Throughput: one word per cycle on the side with the wider words.
    """

    clear: Signal
    flush: Signal
    empty: Signal
    input: stream.Interface
    output: stream.Interface

    def __init__(self, in_bits: int, out_bits: int) -> None:
        self.in_bits = in_bits
        self.out_bits = out_bits
        super().__init__(
            {
                "clear": In(1),
                "flush": In(1),
                "empty": Out(1),
                "input": In(stream.Signature(in_bits)),
                "output": Out(stream.Signature(Piece(out_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = gcd(self.in_bits, self.out_bits)
        given, taken = self.in_bits // unit, self.out_bits // unit
        room = given + taken - 1
        held = Signal(room * unit)
        level = Signal(range(room + 1))  # units held

        whole = Signal()
        pop = Signal()
        push = Signal()
        rest = Signal.like(held)
        left = Signal.like(level)
        following = Signal.like(held)
        m.d.comb += [
            whole.eq(level >= taken),
            self.empty.eq(level == 0),
            self.output.valid.eq(whole | (self.flush & ~self.empty)),
            self.output.payload.data.eq(held[: self.out_bits]),
            self.output.payload.bytes.eq(Mux(whole, taken, level) * (unit // 8)),
            pop.eq(self.output.valid & self.output.ready),
            rest.eq(Mux(pop, held >> self.out_bits, held)),
            left.eq(Mux(pop, Mux(whole, level - taken, 0), level)),
            self.input.ready.eq(left <= room - given),
            push.eq(self.input.valid & self.input.ready),
            following.eq(rest),
        ]
        with m.If(push), m.Switch(left):
            for units in range(room - given + 1):
                with m.Case(units):
                    behind = Cat(Const(0, units * unit), self.input.payload)
                    m.d.comb += following.eq(rest | behind)
        m.d.sync += [held.eq(following), level.eq(left + Mux(push, given, 0))]
        with m.If(self.clear):
            m.d.sync += [held.eq(0), level.eq(0)]
        return m
