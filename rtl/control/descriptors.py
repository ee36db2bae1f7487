"""The descriptor file: the layer descriptors that LOAD has written."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    DESCRIPTOR_SLOT_BITS,
    DESCRIPTOR_SLOTS,
    Destination,
    descriptor_words,
    entry_bits,
)
from nupes.rtl.interface import LoadBus
from nupes.rtl.isa_layouts import DESCRIPTOR_LAYOUT

__all__ = ["DescriptorFile"]

WORD_BITS = 64


class DescriptorFile(wiring.Component):
    """Keep ``DESCRIPTOR_SLOTS`` descriptors in registers; show the one of ``slot``.

    Latency: ``descriptor`` follows ``slot`` in the same cycle, a loaded word one cycle later.
    """

    load: wiring.PureInterface
    slot: Signal
    descriptor: data.View

    def __init__(self, config: ArrayConfig) -> None:
        self.word_bits = entry_bits(Destination.DESCRIPTOR, config)
        self.words = descriptor_words(config)
        super().__init__(
            {
                "load": In(LoadBus(config)),
                "slot": In(DESCRIPTOR_SLOT_BITS),
                "descriptor": Out(DESCRIPTOR_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slots = Array(
            Signal(WORD_BITS * self.words, name=f"slot_{slot}", reset_less=True)
            for slot in range(DESCRIPTOR_SLOTS)
        )
        load, word_bits = self.load, self.word_bits
        selected = slots[load.address[word_bits:]]
        with m.If(load.valid & (load.destination == Destination.DESCRIPTOR)):
            with m.Switch(load.address[:word_bits]):
                for word in range(self.words):
                    with m.Case(word):
                        m.d.sync += selected.word_select(word, WORD_BITS).eq(load.data)
        m.d.comb += self.descriptor.eq(slots[self.slot])
        return m
