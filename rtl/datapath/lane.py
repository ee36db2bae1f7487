"""One lane of the post-processor: accumulate, requantize, encode one output channel."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from nupes.arch.config import ArrayConfig, clog2
from nupes.arch.isa import Destination, entry_bits
from nupes.model.operators.subtract_max import MASKED
from nupes.rtl.datapath.accumulator import Accumulator
from nupes.rtl.datapath.delays import delay
from nupes.rtl.datapath.element_product import ElementProduct
from nupes.rtl.datapath.encoder import Encoder
from nupes.rtl.datapath.requantizer import Requantizer
from nupes.rtl.datapath.residual_term import ResidualTerm
from nupes.rtl.datapath.token_stage import TokenStage
from nupes.rtl.emit import Library, place
from nupes.rtl.interface import (
    RESULT_BITS,
    LoadBus,
    ScaleEntry,
    ShiftEntry,
    TokenFactor,
    WordControl,
)

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Turn partial sums into results: one per cycle, ``result`` in cycle x + ``lane_latency``.

    ``control`` arrives in cycle x - 1, ``psum`` in x, the residual's digits ``residual`` in x + 1.
    With products ``control`` arrives in x - 2 and ``residual`` in x - 1, so that the residual's
    level meets ``psum``; their product is accumulated one cycle later. With attention they arrive
    in x - ``control_lead`` and one cycle later, so that the residual's term meets the sum that it
    may replace; ``factor`` is the token's in the cycle in which the sum is there, ``factor_out``
    one cycle later, and three cycles pass in the token stage. ``control_out`` is the
    control one cycle later, for the next lane. ``index`` is the lane's number: a constant input,
    so that all lanes are the same module.
    """

    def __init__(self, config: ArrayConfig, library: Library | None = None) -> None:
        factors = {"factor": In(TokenFactor()), "factor_out": Out(TokenFactor())}
        super().__init__(
            {
                "index": In(clog2(config.cols)),
                "load": In(LoadBus(config)),
                "control": In(WordControl(config)),
                "control_out": Out(WordControl(config)),
                "psum": In(signed(config.psum_bits)),
                "residual": In(config.residual_bits),
                "result": Out(RESULT_BITS),
                **(factors if config.attention else {}),
            }
        )
        self.index: Signal
        self.load: wiring.PureInterface
        self.control: data.View
        self.control_out: data.View
        self.psum: Signal
        self.residual: Signal
        self.factor: data.View
        self.factor_out: data.View
        self.result: Signal
        self.config = config
        self.library = library

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.residual_term = residual_term = ResidualTerm(config)
        m.submodules.requantizer = requantizer = Requantizer(config)
        m.submodules.encoder = encoder = Encoder(config)
        connect(m, flipped(self.load), residual_term.load)
        connect(m, flipped(self.load), encoder.load)
        m.d.sync += self.control_out.eq(self.control)

        # The sum is there in x + 1, with products in x + 2, and goes on ``stages`` cycles later.
        # ``control`` came ``lead`` cycles earlier than the accumulator needs it, the residual and
        # its parameters ``early`` cycles earlier than the requantizer needs them.
        lead = config.control_lead - 1 + config.product_stages
        stages = config.token_stages
        early = config.issue_to_psum + config.product_stages + stages + 1 - config.issue_to_residual
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
        scale_slot = delay(m, slot, lead + stages, "scale_slot", reset_less=True)
        shift_slot = self.control.param_slot if config.control_lead > 1 else slot
        scale = self.parameters(m, "scales", ScaleEntry(), Destination.SCALE, scale_slot)
        shift = self.parameters(m, "shifts", ShiftEntry(), Destination.SHIFT, shift_slot)

        # The search starts five cycles after the sum is written and reads its root in the fourth.
        search = Cat(self.control.encoder_slot, self.control.encoder_depth)
        search = delay(m, search, 5 + lead + stages, "search", reset_less=True)
        term = delay(m, residual_term.term, early, "term", reset_less=True)
        shift_bits = delay(m, shift.shift, early, "shift", reset_less=True)
        total = accumulator.total
        if config.attention:
            total, term = self.attend(m, control, residual_term, total, term)
            negative = delay(m, shift.negative, early, "negative", reset_less=True)
            m.d.comb += requantizer.negative.eq(negative)
        m.d.comb += [
            accumulator.valid.eq(control.valid),
            accumulator.first.eq(control.first),
            accumulator.shift.eq(control.shift),
            accumulator.address.eq(control.acc_address),
            accumulator.psum.eq(addend),
            residual_term.joined.eq(self.residual),
            residual_term.parameters.eq(shift),
            requantizer.total.eq(total),
            requantizer.scale.eq(scale),
            requantizer.shift.eq(shift_bits),
            requantizer.term.eq(term),
            Cat(encoder.slot, encoder.depth).eq(search),
            encoder.y.eq(requantizer.y),
            self.result.eq(encoder.result),
        ]
        return m

    def attend(
        self,
        m: Module,
        control: data.View,
        residual_term: ResidualTerm,
        total: Value,
        term: Value,
    ) -> tuple[Value, Value]:
        """Add the token stage; return the sum or what replaces it, scaled, and the term that is
        added. ``control`` is that of the accumulator, a cycle before ``total``."""
        config = self.config
        token_stage = place(m, self.library, "token_stage", TokenStage)
        wide = delay(m, self.control.residual_wide, 1, "residual_wide", reset_less=True)
        replace = delay(m, control.replace, 2, "replace", reset_less=True)
        masks = delay(m, control.masks, 2, "masks", reset_less=True)
        added = delay(m, ~replace, 3 + config.token_stages, "added", reset_less=True)
        m.d.sync += self.factor_out.eq(self.factor)
        m.d.comb += [
            residual_term.wide.eq(wide),
            token_stage.value.eq(Mux(replace, residual_term.term, total)),
            token_stage.masked.eq(masks & (residual_term.term == MASKED)),
            token_stage.factor.eq(self.factor),
        ]
        kept = Signal.like(residual_term.term)
        m.d.comb += kept.eq(Mux(added, term.as_signed(), 0))
        return token_stage.result, kept

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
