"""The token memory: the factor of every token of a block."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig, clog2
from nupes.model.token_stage import FRACTION_BITS
from nupes.rtl.interface import TokenFactor

__all__ = ["TokenMemory"]


class TokenMemory(wiring.Component):
    """Keep a factor for each accumulator address.

    ``factor`` is that of the ``address`` of the cycle before, or, if ``used`` was low there, the
    one that changes nothing: offset 0, ``2**15 >> 15``. A factor that is written in one cycle is
    read from the next cycle on.
    """

    valid: Signal
    token: Signal
    written: data.View
    used: Signal
    address: Signal
    factor: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.depth = config.acc_depth
        address = clog2(config.acc_depth)
        super().__init__(
            {
                "valid": In(1),
                "token": In(address),
                "written": In(TokenFactor()),
                "used": In(1),
                "address": In(address),
                "factor": Out(TokenFactor()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = Memory(shape=TokenFactor(), depth=self.depth, init=[])
        m.submodules.factors = memory
        read, write = memory.read_port(), memory.write_port()
        used = Signal()
        one = TokenFactor().const({"mantissa": 1 << FRACTION_BITS, "shift": FRACTION_BITS})
        m.d.sync += used.eq(self.used)
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(1),
            write.addr.eq(self.token),
            write.data.eq(self.written),
            write.en.eq(self.valid),
            self.factor.eq(Mux(used, read.data.as_value(), one.as_value())),
        ]
        return m
