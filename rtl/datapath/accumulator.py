"""The accumulator of a lane: a memory of partial sums with a read-modify-write every cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig, clog2

__all__ = ["Accumulator"]


class Accumulator(wiring.Component):
    """Add a partial sum to its accumulator: latency 2 cycles from the control, one sum per cycle.

    ``valid``, ``first``, ``shift`` and ``address`` arrive in cycle x - 1, ``psum`` in x; ``total``
    is the new sum in cycle x + 1, with ``psum << shift`` added. Consecutive sums may use the same
    address. ``first`` starts from 0; without ``valid`` nothing is written. Sums wrap at
    ``acc_bits``: the compiler proves that none does. ``psum_bits`` is the width of ``psum``.
    """

    def __init__(self, config: ArrayConfig, psum_bits: int) -> None:
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "shift": In(config.shift_bits),
                "address": In(clog2(config.acc_depth)),
                "psum": In(signed(psum_bits)),
                "total": Out(signed(config.acc_bits)),
            }
        )
        self.valid: Signal
        self.first: Signal
        self.shift: Signal
        self.address: Signal
        self.psum: Signal
        self.total: Signal
        self.depth = config.acc_depth

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sums = sums = Memory(shape=self.total.shape(), depth=self.depth, init=[])
        write = sums.write_port()
        read = sums.read_port(transparent_for=(write,))
        valid = Signal()
        first = Signal(reset_less=True)
        shift = Signal.like(self.shift, reset_less=True)
        total = Signal.like(self.total)
        registered = Signal.like(self.total, reset_less=True)
        m.d.sync += [
            valid.eq(self.valid),
            first.eq(self.first),
            shift.eq(self.shift),
            write.addr.eq(self.address),
            registered.eq(total),
        ]
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(1),
            total.eq(Mux(first, 0, read.data) + (self.psum << shift)),
            write.data.eq(total),
            write.en.eq(valid),
            self.total.eq(registered),
        ]
        return m
