"""The register map for software: a C header, a Python module, and CMSIS-SVD."""

from collections.abc import Iterator
from xml.etree import ElementTree

from nupes.arch.bus import BusStatus
from nupes.arch.config import ArrayConfig
from nupes.arch.registers import (
    ADDRESS_BITS,
    REGISTER_BITS,
    REGISTERS,
    VERSION,
    Access,
    BitField,
    Register,
    constants_of,
)

__all__ = ["c_header", "python_module", "svd"]

SVD_ACCESS = {
    Access.CONSTANT: "read-only",
    Access.STATE: "read-only",
    Access.STORED: "read-write",
    Access.STROBE: "write-only",
    Access.STICKY: "read-write",
}


def constants() -> Iterator[tuple[str, int, str]]:
    """Yield name, value and meaning of every constant: offsets of registers, bits of fields, values
    of fields that are a choice."""
    for register in REGISTERS:
        kind = f"{register.doc}; {register.access.letters}"
        yield register.name, register.offset, kind
        for field in register.fields:
            name = f"{register.name}_{field.name.upper()}"
            if field.width < REGISTER_BITS:
                yield f"{name}_LOW_BIT", field.low, field.doc
                yield f"{name}_MASK", field.mask, ""
            elif register.access is Access.CONSTANT and field.reset:
                yield f"{name}_VALUE", field.reset, field.doc
    yield "MAP_MAJOR", VERSION[0], "version of this map: another one needs another driver"
    for item in BusStatus:
        yield f"RUN_{item.name}", int(item), ""


def c_header() -> str:
    """Return ``nupes_registers.h``."""
    lines = [
        "/* Registers of nupes_axi, made from the register map: byte offsets, bits of fields. */",
        "#ifndef NUPES_REGISTERS_H",
        "#define NUPES_REGISTERS_H",
        "",
    ]
    for name, value, doc in constants():
        text = f"#define NUPES_{name} {value:#x}u"
        lines.append(f"{text} /* {doc} */" if doc else text)
    return "\n".join([*lines, "", "#endif", ""])


def python_module() -> str:
    """Return ``nupes_registers.py``."""
    lines = [
        '"""Registers of nupes_axi, made from the register map: byte offsets, bits of fields."""',
        "",
    ]
    for name, value, doc in constants():
        lines.append(f"{name} = {value:#x}" + (f"  # {doc}" if doc else ""))
    return "\n".join([*lines, ""])


def svd(config: ArrayConfig, data_bits: int) -> bytes:
    """Return ``nupes.svd``: the registers of an array, for debuggers and code generators."""
    device = ElementTree.Element("device", schemaVersion="1.3")
    for name, text in (
        ("vendor", "nupes"),
        ("name", "nupes_axi"),
        ("version", "1.0"),
        ("description", f"A {config} accelerator on AXI4"),
        ("addressUnitBits", "8"),
        ("width", str(REGISTER_BITS)),
    ):
        add(device, name, text)
    peripheral = add(add(device, "peripherals"), "peripheral")
    add(peripheral, "name", "NUPES")
    add(peripheral, "baseAddress", "0x0")
    block = add(peripheral, "addressBlock")
    for name, text in (("offset", "0x0"), ("size", hex(1 << ADDRESS_BITS)), ("usage", "registers")):
        add(block, name, text)
    interrupt = add(peripheral, "interrupt")
    add(interrupt, "name", "NUPES")
    add(interrupt, "value", "0")
    registers = add(peripheral, "registers")
    known = constants_of(config, data_bits)
    for register in REGISTERS:
        reset = sum(
            known.get((register.name, field.name), field.reset) << field.low
            for field in register.fields
        )
        add_register(registers, register, reset)
    ElementTree.indent(device)
    return ElementTree.tostring(device, encoding="utf-8", xml_declaration=True) + b"\n"


def add(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    """Append an element with a text."""
    child = ElementTree.SubElement(parent, name)
    child.text = text
    return child


def add_register(parent: ElementTree.Element, register: Register, reset: int) -> None:
    """Append a register with its fields."""
    item = add(parent, "register")
    for name, text in (
        ("name", register.name),
        ("description", register.doc),
        ("addressOffset", hex(register.offset)),
        ("access", SVD_ACCESS[register.access]),
        ("resetValue", hex(reset)),
    ):
        add(item, name, text)
    if register.access is Access.STICKY:
        add(item, "modifiedWriteValues", "oneToClear")
    fields = add(item, "fields")
    for field in register.fields:
        add_field(fields, field)


def add_field(parent: ElementTree.Element, field: BitField) -> None:
    """Append a field, with the names of its values."""
    item = add(parent, "field")
    for name, text in (
        ("name", field.name),
        ("description", field.doc),
        ("bitOffset", str(field.low)),
        ("bitWidth", str(field.width)),
    ):
        add(item, name, text)
    if field.values is not None:
        values = add(item, "enumeratedValues")
        for value in field.values:
            entry = add(values, "enumeratedValue")
            add(entry, "name", value.name)
            add(entry, "value", str(int(value)))
