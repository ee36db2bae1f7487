"""Verilog of an accelerator on a bus: ``nupes_axi`` around ``nupes_accelerator``."""

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out, connect

from nupes.arch.bus import BusStatus, word_bytes
from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Status
from nupes.arch.registers import REGISTER_BITS, constants_of
from nupes.rtl import emit
from nupes.rtl.bus.channels import LiteChannels, ReadChannels, WriteChannels
from nupes.rtl.bus.control import BusControl
from nupes.rtl.bus.gearbox import Gearbox
from nupes.rtl.bus.reader import ReadMaster
from nupes.rtl.bus.registers import RegisterBlock
from nupes.rtl.bus.writer import WriteMaster
from nupes.rtl.interface import RESULT_BITS
from nupes.rtl.top import TOP

__all__ = ["BUS_TOP", "AxiPins", "bus_verilog"]

BUS_TOP = "nupes_axi"
"""Name of the Verilog module."""

DECERR = 3


def pins(prefix: str, signature: wiring.Signature) -> dict[str, Member]:
    """Return the members of an interface with flat names."""
    return {f"{prefix}_{name}": member for name, member in signature.members.items()}


class AxiPins(wiring.Component):
    """The accelerator between AXI4 managers and an AXI4-Lite subordinate, one flat port per signal.

    ``irq`` is high while INTERRUPT_STATE and INTERRUPT_ENABLE have a common bit. ``mark`` is
    the accelerator's. docs/bus.md says what software sees.
    """

    def __init__(self, config: ArrayConfig, data_bits: int) -> None:
        self.config = config
        self.data_bits = data_bits
        super().__init__(
            {
                "aclk": In(1),
                "aresetn": In(1),
                "irq": Out(1),
                "mark": Out(1),
                **pins("m_axi", ReadChannels(data_bits)),
                **pins("m_axi", WriteChannels(data_bits)),
                **pins("s_axil", LiteChannels().flip()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, data_bits = self.config, self.data_bits
        m.domains.sync = domain = ClockDomain("sync")
        m.d.comb += [domain.clk.eq(self.aclk), domain.rst.eq(~self.aresetn)]

        m.submodules.registers = registers = RegisterBlock(constants_of(config, data_bits))
        m.submodules.control = control = BusControl(config.watchdog)
        m.submodules.reader = reader = ReadMaster(config, data_bits)
        m.submodules.words = words = Gearbox(data_bits, 8 * word_bytes(config.port_bits))
        m.submodules.results = results = Gearbox(RESULT_BITS * config.cols, data_bits)
        m.submodules.writer = writer = WriteMaster(data_bits)
        self.join(m, "m_axi", reader.bus)
        self.join(m, "m_axi", writer.bus)
        self.join(m, "s_axil", registers.bus)

        # The accelerator.
        done, idle, result_valid, result_ready = Signal(), Signal(), Signal(), Signal()
        response = Signal()
        status, result = Signal(Status), Signal(RESULT_BITS * config.cols)
        m.submodules.accelerator = Instance(
            TOP,
            ("i", "clk", ClockSignal()),
            ("i", "rst", ResetSignal() | control.stop),
            ("i", "start", control.begin),
            ("i", "length", registers.program_length_words),
            ("o", "idle", idle),
            ("o", "done", done),
            ("o", "status", Value.cast(status)),
            ("o", "mark", self.mark),
            ("o", "request_valid", reader.request.valid),
            ("i", "request_ready", reader.request.ready),
            ("o", "request_address", reader.request.payload.address),
            ("o", "request_length", reader.request.payload.length),
            ("i", "response_valid", response),
            ("o", "response_ready", Signal(name="response_ready")),
            ("i", "response_data", words.output.payload.data[: config.port_bits]),
            ("o", "result_valid", result_valid),
            ("i", "result_ready", result_ready),
            ("o", "result_data", result),
        )

        # Results that the buffer has no room for are dropped; the first one ends the run.
        count = Signal(REGISTER_BITS)
        over = Signal()
        connect(m, reader.beats, words.input)
        connect(m, results.output, writer.beats)
        m.d.comb += [
            # The accelerator takes every word that it asked for at once.
            words.output.ready.eq(reader.due),
            response.eq(words.output.valid & words.output.ready),
            reader.taken.eq(response),
            over.eq(count == registers.result_limit_results),
            results.input.valid.eq(result_valid & ~over),
            results.input.payload.eq(result),
            result_ready.eq(results.input.ready | over),
        ]
        with m.If(control.begin):
            m.d.sync += count.eq(0)
        with m.Elif(results.input.valid & results.input.ready):
            m.d.sync += count.eq(count + 1)

        # The run.
        base = Cat(registers.program_low_address, registers.program_high_address)
        buffer = Cat(registers.result_low_address, registers.result_high_address)
        m.d.comb += [
            control.start.eq(registers.control_start),
            control.abort.eq(registers.control_abort),
            control.core_done.eq(done),
            control.core_status.eq(status),
            control.core_idle.eq(idle),
            control.progress.eq((writer.bus.wvalid & writer.bus.wready) | writer.bus.bvalid),
            control.drained.eq(~reader.busy & ~writer.busy & results.empty),
            reader.start.eq(control.begin),
            reader.base.eq(base),
            reader.stop.eq(control.stop),
            words.clear.eq(control.stop | control.begin),
            results.clear.eq(control.stop),
            results.flush.eq(control.flush),
            writer.start.eq(control.begin),
            writer.base.eq(buffer),
            writer.stop.eq(control.stop),
            writer.flush.eq(control.flush & results.empty),
        ]

        # What can go wrong on the bus, the first one first; of two at once, the read.
        m.d.comb += [
            control.fault.eq(reader.error | writer.error | (result_valid & over)),
            control.fault_status.eq(BusStatus.OVERFLOW),
            control.fault_address.eq(buffer),
        ]
        with m.If(writer.error):
            m.d.comb += [
                control.fault_status.eq(
                    Mux(writer.response == DECERR, BusStatus.WRITE_DECERR, BusStatus.WRITE_SLVERR)
                ),
                control.fault_address.eq(writer.address),
            ]
        with m.If(reader.error):
            m.d.comb += [
                control.fault_status.eq(
                    Mux(reader.response == DECERR, BusStatus.READ_DECERR, BusStatus.READ_SLVERR)
                ),
                control.fault_address.eq(reader.address),
            ]

        # What software sees.
        m.d.comb += [
            registers.status_idle.eq(control.idle),
            registers.status_done.eq(control.done),
            registers.status_status.eq(control.status),
            registers.result_count_results.eq(count),
            Cat(registers.error_low_address, registers.error_high_address).eq(
                control.error_address
            ),
            Cat(registers.cycles_low_cycles, registers.cycles_high_cycles).eq(control.cycles),
            registers.interrupt_state_done_set.eq(control.finish),
            self.irq.eq(registers.interrupt_state_done & registers.interrupt_enable_done),
        ]
        return m

    def join(self, m: Module, prefix: str, inner: wiring.PureInterface) -> None:
        """Connect an interface of a part with the pins of the same names."""
        for name, member in inner.signature.members.items():
            pin, port = getattr(self, f"{prefix}_{name}"), getattr(inner, name)
            m.d.comb += pin.eq(port) if member.flow == Out else port.eq(pin)


def bus_verilog(config: ArrayConfig, data_bits: int) -> str:
    """Return the Verilog of module ``BUS_TOP``, which needs that of ``TOP``: equal text for equal
    configurations."""
    return emit.verilog(AxiPins(config, data_bits), None, BUS_TOP)
