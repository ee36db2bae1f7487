"""The register block: an AXI4-Lite subordinate made from the register map."""

from collections.abc import Iterator, Mapping

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from nupes.arch.registers import REGISTER_BITS, REGISTERS, Access, BitField, Register
from nupes.rtl.bus.channels import LiteChannels

__all__ = ["OKAY", "SLVERR", "RegisterBlock", "port_of"]

OKAY, SLVERR = 0, 2
"""Responses: SLVERR where there is no register."""

BYTE_BITS = 8


def port_of(register: str, field: str) -> str:
    """Return the name of the port of a field."""
    return f"{register}_{field}".lower()


def fields_of(*kinds: Access) -> Iterator[tuple[Register, BitField]]:
    """Yield every field of registers of these kinds."""
    for register in REGISTERS:
        if register.access in kinds:
            yield from ((register, field) for field in register.fields)


class RegisterBlock(wiring.Component):
    """Give software the registers of ``nupes.arch.registers`` over AXI4-Lite.

    A port for each field that is no constant, such as ``status_idle``: STATE is an input, STORED an
    output, a STROBE an output that is high for one cycle, STICKY an output with an input
    ``..._set``. ``constants`` are the fields that depend on the design, by the names of register
    and field.

    Writes take effect in whole bytes, by ``wstrb``. A write accepted on AW and W in cycle n at the
    latest is a strobe, or stored, in n + 1, and answered in n + 2; a read accepted in n is answered
    in n + 1. One write and one read at a time. Where there is no register a read gives 0, a write
    does nothing, and the response is SLVERR. A write to a register that cannot be written does
    nothing.
    """

    bus: wiring.PureInterface

    def __init__(self, constants: Mapping[tuple[str, str], int]) -> None:
        self.constants = constants
        ports: dict[str, Member] = {"bus": In(LiteChannels())}
        for register, field in fields_of(Access.STATE):
            ports[port_of(register.name, field.name)] = In(field.width)
        for register, field in fields_of(Access.STORED, Access.STROBE, Access.STICKY):
            ports[port_of(register.name, field.name)] = Out(field.width)
        for register, field in fields_of(Access.STICKY):
            ports[port_of(register.name, field.name) + "_set"] = In(field.width)
        super().__init__(ports)

    def port(self, register: Register, field: BitField) -> Signal:
        """Return the port of a field."""
        return getattr(self, port_of(register.name, field.name))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        places = len(bus.awaddr) - 2  # bits of a register's number

        # A write waits here until both of its channels have come and the last response is taken.
        addressed = Signal()
        given = Signal()
        target = Signal(places)
        written = Signal(REGISTER_BITS)
        lanes = Signal(REGISTER_BITS // BYTE_BITS)
        write = Signal()
        m.d.comb += [
            bus.awready.eq(~addressed),
            bus.wready.eq(~given),
            write.eq(addressed & given & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [addressed.eq(1), target.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [given.eq(1), written.eq(bus.wdata), lanes.eq(bus.wstrb)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [addressed.eq(0), given.eq(0), bus.bvalid.eq(1), bus.bresp.eq(SLVERR)]
            with m.Switch(target):
                for register in REGISTERS:
                    with m.Case(register.offset >> 2):
                        m.d.sync += bus.bresp.eq(OKAY)

        # What is written, and what stays, bit by bit.
        chosen = Cat(lane.replicate(BYTE_BITS) for lane in lanes)
        for register, field in fields_of(Access.STORED, Access.STROBE, Access.STICKY):
            port = self.port(register, field)
            part = slice(field.low, field.low + field.width)
            hit = write & (target == register.offset >> 2)
            if register.access is Access.STORED:
                with m.If(hit):
                    m.d.sync += port.eq(written[part] & chosen[part] | port & ~chosen[part])
            elif register.access is Access.STROBE:
                m.d.comb += port.eq((written[part] & chosen[part]) & hit.replicate(field.width))
            else:
                set = getattr(self, port_of(register.name, field.name) + "_set")
                cleared = (written[part] & chosen[part]) & hit.replicate(field.width)
                m.d.sync += port.eq(port & ~cleared | set)

        # Reads.
        m.d.comb += bus.arready.eq(~bus.rvalid)
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0), bus.rresp.eq(SLVERR)]
            with m.Switch(bus.araddr[2:]):
                for register in REGISTERS:
                    with m.Case(register.offset >> 2):
                        m.d.sync += [bus.rdata.eq(self.content(register)), bus.rresp.eq(OKAY)]
        return m

    def content(self, register: Register) -> Cat:
        """Return what a register reads as."""
        parts, low = [], 0
        for field in register.fields:
            parts.append(Const(0, field.low - low))
            low = field.low + field.width
            if register.access is Access.CONSTANT:
                value = self.constants.get((register.name, field.name), field.reset)
                parts.append(Const(value, field.width))
            elif register.access is Access.STROBE:
                parts.append(Const(0, field.width))
            else:
                parts.append(self.port(register, field))
        return Cat(*parts)
