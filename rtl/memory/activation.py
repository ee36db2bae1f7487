"""The activation memory: words of ``lanes`` codes in two banks, the even and the odd addresses."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import BANKS, Destination
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import LoadBus

__all__ = ["ActivationMemory", "Bank", "ReadPort", "WritePort"]


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


class Bank(wiring.Component):
    """Half of the words, of the even or of the odd addresses: two reads and one write a cycle.

    Addresses are those of the whole memory without their lowest bit. ``mask`` is that of
    ``WritePort``.
    """

    reads: Sequence[Any]
    address: Signal
    mask: Signal
    data: Signal

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        address = config.act_address_bits - 1
        read = wiring.Signature({"address": Out(address), "data": In(config.word_bits)})
        super().__init__(
            {
                "reads": In(read).array(2),
                "address": In(address),
                "mask": In(config.lanes // config.cols),
                "data": In(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        words = Memory(shape=config.word_bits, depth=-(-config.act_depth // BANKS), init=[])
        m.submodules.words = words
        for port in self.reads:
            read = words.read_port()
            m.d.comb += [read.addr.eq(port.address), port.data.eq(read.data)]
        write = words.write_port(granularity=config.cols * config.code_bits)
        m.d.comb += [
            write.addr.eq(self.address),
            write.en.eq(self.mask),
            write.data.eq(self.data),
        ]
        return m


class ActivationMemory(wiring.Component):
    """Serve the stream, the residual reader, the write-back and LOAD, each in every cycle.

    The residual reader and the write-back have a pair of ports, which never address the same bank
    in a cycle: of two planes of a word, one address is even and the other odd. So has the stream in
    arrays with attention or that join planes, where ``second`` reads what ``stream`` leaves free.
    LOAD must leave a bank alone while the write-back writes there, which ``write_busy`` says.
    Consecutive addresses alternate between the banks, so two sequences of them collide once and
    never again.

    A read in the cycle of a write to the same word returns the old word.
    """

    stream: wiring.PureInterface
    second: wiring.PureInterface
    residual: Sequence[Any]
    write: Sequence[Any]
    write_busy: Signal
    load: wiring.PureInterface

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        self.config = config
        self.library = library
        super().__init__(
            {
                "stream": In(ReadPort(config)),
                **({"second": In(ReadPort(config))} if config.reads_pairs else {}),
                "residual": In(ReadPort(config)).array(BANKS),
                "write": In(WritePort(config)).array(BANKS),
                # One bit per bank.
                "write_busy": Out(BANKS),
                "load": In(LoadBus(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        banks = [place(m, self.library, name, Bank, config) for name in ("even", "odd")]
        streams = [self.stream, self.second] if config.reads_pairs else [self.stream]
        self._read(m, [bank.reads[0] for bank in banks], streams, "stream")
        self._read(m, [bank.reads[1] for bank in banks], self.residual, "residual")

        load = self.load
        loading = load.valid & (load.destination == Destination.ACTIVATION)
        first, second = self.write
        for number, bank in enumerate(banks):
            crossed = first.address[0] ^ number  # the second port's word lies in this bank
            m.d.comb += self.write_busy[number].eq(Mux(crossed, second.valid, first.valid))
            with m.If(self.write_busy[number]):
                m.d.comb += [
                    bank.address.eq(Mux(crossed, second.address, first.address)[1:]),
                    bank.data.eq(Mux(crossed, second.data.as_value(), first.data.as_value())),
                    bank.mask.eq(Mux(crossed, second.mask, first.mask)),
                ]
            with m.Else():
                here = loading & (load.address[0] == number)
                m.d.comb += [
                    bank.address.eq(load.address[1:]),
                    bank.data.eq(load.data),
                    bank.mask.eq(here.replicate(len(bank.mask))),
                ]
        return m

    def _read(self, m: Module, reads: list[Any], ports: Sequence[Any], name: str) -> None:
        """Let one port, or a pair of them, read both banks; the first one's address decides."""
        odd = ports[0].address[0]
        was_odd = Signal(name=f"{name}_was_odd")
        m.d.sync += was_odd.eq(odd)
        for number, read in enumerate(reads):
            address = Mux(odd ^ number, ports[-1].address, ports[0].address)
            m.d.comb += read.address.eq(address[1:])
        even, other = (read.data for read in reads)
        for number, port in enumerate(ports):
            m.d.comb += port.data.eq(Mux(was_odd ^ number, other, even))
