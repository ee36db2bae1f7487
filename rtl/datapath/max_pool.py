"""The max-pool unit: tables are sorted, so the maximum of codes is the maximum of values."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring

from nupes.arch.config import ArrayConfig
from nupes.rtl.interface import PoolControl, PoolPort

__all__ = ["PoolUnit"]


class PoolUnit(wiring.Component):
    """Take the maximum of joined codes over a window: one word per cycle.

    Latency ``issue_to_pool`` from the pixel's last word. The planes of a tap come most significant
    first. Digits join by shifting, so a tap that is not complete never exceeds the same tap
    complete and may take part in the maximum at any time. A skipped tap is all zeros, which never
    wins; a window of nothing but padding gives 0.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(PoolPort(config).flip())
        self.control: data.View
        self.word: data.View
        self.valid: Signal
        self.end: Signal
        self.joined: data.View
        self.config = config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        read = Signal(PoolControl())
        tapped = Signal(PoolControl())
        m.d.sync += [
            read.eq(self.control),
            tapped.eq(read),
            self.valid.eq(tapped.valid & tapped.last),
            self.end.eq(tapped.valid & tapped.end),
        ]
        for lane in range(self.config.lanes):
            tap = Signal(self.config.joined_bits, name=f"tap_{lane}", reset_less=True)
            best = Signal(self.config.joined_bits, name=f"best_{lane}", reset_less=True)
            digit = Mux(read.pad, 0, self.word[lane])
            with m.If(read.valid):
                m.d.sync += tap.eq(Cat(digit, Mux(read.top, 0, tap)))
            with m.If(tapped.valid & (tapped.first | (tap > best))):
                m.d.sync += best.eq(tap)
            m.d.comb += self.joined[lane].eq(best)
        return m
