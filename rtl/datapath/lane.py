"""One lane of the post-processor: accumulate, requantize, encode one output channel."""

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination, entry_bits
from nupes.rtl.datapath.accumulator import Accumulator
from nupes.rtl.datapath.delays import delay
from nupes.rtl.datapath.element_product import ElementProduct
from nupes.rtl.datapath.encoder import Encoder
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.rtl.datapath.residual_term import ResidualTerm
from nupes.rtl.interface import RESULT_BITS, LoadBus, ScaleEntry, ShiftEntry, WordControl

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Turn partial sums into results: one per cycle, ``result`` in cycle x + ``lane_latency``.

    ``control`` arrives in cycle x - 1, ``psum`` in x, the residual's digits ``residual`` in x + 1.
    With products ``control`` arrives in x - 2 and ``residual`` in x - 1, so that the residual's
    level meets ``psum``; their product is accumulated one cycle later. ``control_out`` is the
    control one cycle later, for the next lane. ``index`` is the lane's number: a constant input,
    so that all lanes are the same module.
    """

    def __init__(self, config: ArrayConfig) -> None:
        super().__init__(
            {
                "index": In(clog2(config.cols)),
                "load": In(LoadBus(config)),
                "control": In(WordControl(config)),
                "control_out": Out(WordControl(config)),
                "psum": In(signed(config.psum_bits)),
                "residual": In(config.joined_bits),
                "result": Out(RESULT_BITS),
            }
        )
        self.index: Signal
        self.load: wiring.PureInterface
        self.control: data.View
        self.control_out: data.View
        self.psum: Signal
        self.residual: Signal
        self.result: Signal
        self.config = config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.residual_term = residual_term = ResidualTerm(config)
        m.submodules.requantizer = requantizer = Requantizer(config)
        m.submodules.encoder = encoder = Encoder(config)
        connect(m, flipped(self.load), residual_term.load)
        connect(m, flipped(self.load), encoder.load)
        m.d.sync += self.control_out.eq(self.control)

        # The sum is written in x, with products in x + 1: ``control`` came ``lead`` cycles earlier
        # than it needs to, the residual and its parameters ``early`` cycles.
        lead, early = 2 * config.product_stages, 3 * config.product_stages
        control = data.View(WordControl(config), delay(m, self.control, lead, "accumulate"))
        addend = self.psum
        if config.products:
            m.submodules.element_product = element_product = ElementProduct(config)
            m.d.comb += [
                element_product.psum.eq(self.psum),
                element_product.level.eq(residual_term.level),
                element_product.multiply.eq(control.multiply),
            ]
            addend = element_product.addend
        m.submodules.accumulator = accumulator = Accumulator(config, len(addend))

        # Parameters: one cycle after their slot; the scale when the sum is there.
        slot = self.control_out.param_slot
        scale_slot = delay(m, slot, lead, "scale_slot", reset_less=True)
        shift_slot = self.control.param_slot if config.products else slot
        scale = self.parameters(m, "scales", ScaleEntry(), Destination.SCALE, scale_slot)
        shift = self.parameters(m, "shifts", ShiftEntry(), Destination.SHIFT, shift_slot)

        # The search starts five cycles after the sum is written and reads its root in the fourth.
        search = Cat(self.control.encoder_slot, self.control.encoder_depth)
        search = delay(m, search, 5 + lead, "search", reset_less=True)
        term = delay(m, residual_term.term, early, "term", reset_less=True)
        m.d.comb += [
            accumulator.valid.eq(control.valid),
            accumulator.first.eq(control.first),
            accumulator.shift.eq(control.shift),
            accumulator.address.eq(control.acc_address),
            accumulator.psum.eq(addend),
            residual_term.joined.eq(self.residual),
            residual_term.parameters.eq(shift),
            requantizer.total.eq(accumulator.total),
            requantizer.scale.eq(scale),
            requantizer.shift.eq(delay(m, shift.shift, early, "shift", reset_less=True)),
            requantizer.term.eq(term),
            Cat(encoder.slot, encoder.depth).eq(search),
            encoder.y.eq(requantizer.y),
            self.result.eq(encoder.result),
        ]
        return m

    def parameters(
        self,
        m: Module,
        name: str,
        layout: data.StructLayout,
        destination: Destination,
        slot: Value,
    ) -> data.View:
        """Add a parameter memory; return the entry of last cycle's ``slot``."""
        memory = Memory(shape=layout, depth=self.config.param_slots, init=[])
        m.submodules[name] = memory
        read, write = memory.read_port(), memory.write_port()
        lane_bits = entry_bits(destination, self.config)
        m.d.comb += [
            read.addr.eq(slot),
            read.en.eq(1),
            write.addr.eq(self.load.address[lane_bits:]),
            write.data.eq(self.load.data),
            write.en.eq(
                self.load.valid
                & (self.load.destination == destination)
                & (self.load.address[:lane_bits] == self.index)
            ),
        ]
        return read.data
