"""The activation memory: words of ``lanes`` codes, two read ports and one write port."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.rtl.config import ArrayConfig
from nupes.rtl.interface import LoadBus
from nupes.rtl.isa import Destination

__all__ = ["ActivationMemory", "ReadPort", "WritePort"]


class ReadPort(wiring.Signature):
    """A synchronous read: ``data`` in cycle n + 1 is the word of ``address`` in cycle n."""

    def __init__(self, config: ArrayConfig) -> None:
        word = data.ArrayLayout(config.code_bits, config.lanes)
        super().__init__({"address": Out(config.act_address_bits), "data": In(word)})


class WritePort(wiring.Signature):
    """A write at the end of the cycle in which ``valid`` is high.

    ``mask`` has one bit for every ``cols`` codes of the word: its slices.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "address": Out(config.act_address_bits),
                "mask": Out(config.lanes // config.cols),
                "data": Out(data.ArrayLayout(config.code_bits, config.lanes)),
            }
        )


class ActivationMemory(wiring.Component):
    """Serve the stream, the residual reader and the write-back; LOAD when the write-back is silent.

    A read in the cycle of a write to the same word returns the old word. The sequencer never loads
    in a cycle of ``write.valid``.
    """

    stream: wiring.PureInterface
    residual: wiring.PureInterface
    write: wiring.PureInterface
    load: wiring.PureInterface

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "stream": In(ReadPort(config)),
                "residual": In(ReadPort(config)),
                "write": In(WritePort(config)),
                "load": In(LoadBus(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.memory = memory = Memory(
            shape=config.word_bits, depth=config.act_depth, init=[]
        )
        for port in (self.stream, self.residual):
            read = memory.read_port()
            m.d.comb += [read.addr.eq(port.address), port.data.eq(read.data)]

        write = memory.write_port(granularity=config.cols * config.code_bits)
        loading = Signal()
        m.d.comb += loading.eq(self.load.valid & (self.load.destination == Destination.ACTIVATION))
        with m.If(self.write.valid):
            m.d.comb += [
                write.addr.eq(self.write.address),
                write.data.eq(self.write.data),
                write.en.eq(self.write.mask),
            ]
        with m.Else():
            m.d.comb += [
                write.addr.eq(self.load.address),
                write.data.eq(self.load.data),
                write.en.eq(loading.replicate(len(write.en))),
            ]
        return m
