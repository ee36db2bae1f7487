"""The register map of the accelerator on a bus: one declarative table.

The hardware, the C header, the Python driver, the SVD file and the table of the documentation are
made from it. Registers have 32 bits; a number of 64 bits takes two, low half first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from zlib import crc32

from nupes.arch.bus import BusStatus
from nupes.arch.cells import CELLS
from nupes.arch.config import ArrayConfig

__all__ = [
    "ADDRESS_BITS",
    "MAGIC",
    "REGISTERS",
    "REGISTER_BITS",
    "VERSION",
    "Access",
    "BitField",
    "Register",
    "constants_of",
    "digest_of",
    "map_rows",
]

ADDRESS_BITS = 12
"""Bits of a byte address of the registers: a page of 4 KiB."""

REGISTER_BITS = 32

MAGIC = int.from_bytes(b"NPES", "little")
"""What IDENTITY says: the bytes "NPES" in memory, whichever array it is."""

VERSION = (1, 0)
"""Major and minor version of this map: another major one needs another driver."""


class MacKind(IntEnum):
    """The kinds of cells by their place in ``CELLS``."""

    DECODE = 0
    UNIFORM = 1
    SQUARE = 2
    PAIR = 3
    PRODUCT = 4


class Access(Enum):
    """What reading and writing a register does."""

    CONSTANT = "reads as a number of the design"
    STATE = "reads as the state of the hardware"
    STORED = "reads as it was written"
    STROBE = "a 1 that is written acts once; reads as 0"
    STICKY = "set by the hardware, cleared by writing 1"

    @property
    def letters(self) -> str:
        """The usual abbreviation."""
        return {"STORED": "RW", "STROBE": "WO", "STICKY": "W1C"}.get(self.name, "RO")


@dataclass(frozen=True)
class BitField:
    """Some bits of a register, from bit ``low`` on; ``values`` names them if they are a choice."""

    name: str
    low: int
    width: int
    doc: str
    reset: int = 0
    values: type[IntEnum] | None = None

    @property
    def mask(self) -> int:
        """The bits of the field in its register."""
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A register of 32 bits at a byte offset."""

    name: str
    offset: int
    access: Access
    doc: str
    fields: tuple[BitField, ...]

    @property
    def reset(self) -> int:
        """What it reads as after a reset; constants of the array count as 0."""
        return sum(field.reset << field.low for field in self.fields)


def whole(name: str, doc: str, reset: int = 0) -> tuple[BitField, ...]:
    """Return the only field of a register that is one number."""
    return (BitField(name, 0, REGISTER_BITS, doc, reset),)


REGISTERS: tuple[Register, ...] = (
    Register(
        "IDENTITY",
        0x00,
        Access.CONSTANT,
        "what this is",
        whole("magic", 'the bytes "NPES"', MAGIC),
    ),
    Register(
        "VERSION",
        0x04,
        Access.CONSTANT,
        "version of this register map",
        (
            BitField("minor", 0, 16, "grows with what a driver may ignore", VERSION[1]),
            BitField("major", 16, 16, "grows with what it may not", VERSION[0]),
        ),
    ),
    Register(
        "ARRAY",
        0x08,
        Access.CONSTANT,
        "the array",
        (
            BitField("rows", 0, 8, "rows of processing elements"),
            BitField("cols", 8, 8, "columns, and numbers in a result"),
            BitField("code_bits", 16, 4, "bits of a code"),
            BitField("mac", 20, 4, "kind of the cells", values=MacKind),
            BitField("products", 24, 1, "the array has products of stored tensors"),
            BitField("attention", 25, 1, "the array has what attention needs"),
        ),
    ),
    Register(
        "PORT",
        0x0C,
        Access.CONSTANT,
        "words",
        (
            BitField("port_bits", 0, 16, "bits of a program word"),
            BitField("data_bits", 16, 16, "bits of a beat on the bus"),
        ),
    ),
    Register(
        "CONFIGURATION",
        0x10,
        Access.CONSTANT,
        "which configuration",
        whole("digest", "CRC-32 of all fields of `ArrayConfig`: that of the program must be equal"),
    ),
    Register(
        "CONTROL",
        0x14,
        Access.STROBE,
        "commands",
        (
            BitField("start", 0, 1, "begin a run; ignored unless `idle`"),
            BitField("abort", 1, 1, "end the run with ABORTED; bursts on the bus are completed"),
        ),
    ),
    Register(
        "STATUS",
        0x18,
        Access.STATE,
        "how the run goes",
        (
            BitField("idle", 0, 1, "nothing is under way: a run may begin", 1),
            BitField("done", 1, 1, "a run has ended since the last `start`"),
            BitField("status", 4, 4, "how it ended", values=BusStatus),
        ),
    ),
    Register(
        "PROGRAM_LENGTH",
        0x1C,
        Access.STORED,
        "size of the program",
        whole("words", "port words of the program, at least 1"),
    ),
    Register(
        "PROGRAM_LOW",
        0x20,
        Access.STORED,
        "where the program lies",
        whole("address", "byte address, a multiple of a beat's bytes (low bits are ignored)"),
    ),
    Register(
        "PROGRAM_HIGH",
        0x24,
        Access.STORED,
        "where the program lies",
        whole("address", "upper half of the address"),
    ),
    Register(
        "RESULT_LOW",
        0x28,
        Access.STORED,
        "where results go",
        whole("address", "byte address, a multiple of a beat's bytes (low bits are ignored)"),
    ),
    Register(
        "RESULT_HIGH",
        0x2C,
        Access.STORED,
        "where results go",
        whole("address", "upper half of the address"),
    ),
    Register(
        "RESULT_LIMIT",
        0x30,
        Access.STORED,
        "size of the buffer",
        whole("results", "most results that a run may write, each 2 `cols` bytes"),
    ),
    Register(
        "RESULT_COUNT",
        0x34,
        Access.STATE,
        "what the run has given",
        whole("results", "results so far; all are in memory once the run is OK"),
    ),
    Register(
        "ERROR_LOW",
        0x38,
        Access.STATE,
        "where the bus failed",
        whole("address", "byte address of the beat not read, or of the burst not written"),
    ),
    Register(
        "ERROR_HIGH",
        0x3C,
        Access.STATE,
        "where the bus failed",
        whole("address", "upper half of the address"),
    ),
    Register(
        "CYCLES_LOW",
        0x40,
        Access.STATE,
        "how long the run took",
        whole("cycles", "cycles from the first one of the run to its end"),
    ),
    Register(
        "CYCLES_HIGH",
        0x44,
        Access.STATE,
        "how long the run took",
        whole("cycles", "upper half; read it while no run is under way"),
    ),
    Register(
        "INTERRUPT_ENABLE",
        0x48,
        Access.STORED,
        "what raises `irq`",
        (BitField("done", 0, 1, "the end of a run"),),
    ),
    Register(
        "INTERRUPT_STATE",
        0x4C,
        Access.STICKY,
        "what has happened",
        (BitField("done", 0, 1, "a run has ended, however it did"),),
    ),
)


def digest_of(config: ArrayConfig) -> int:
    """Return the number by which a program and an array know that they belong together."""
    return crc32(repr(config).encode())


def constants_of(config: ArrayConfig, data_bits: int) -> Mapping[tuple[str, str], int]:
    """Return what the constant fields of an array on a bus of ``data_bits`` read as, by the names
    of register and field; others have their ``reset``."""
    return {
        ("ARRAY", "rows"): config.rows,
        ("ARRAY", "cols"): config.cols,
        ("ARRAY", "code_bits"): config.code_bits,
        ("ARRAY", "mac"): CELLS.index(config.mac),
        ("ARRAY", "products"): int(config.products),
        ("ARRAY", "attention"): int(config.attention),
        ("PORT", "port_bits"): config.port_bits,
        ("PORT", "data_bits"): data_bits,
        ("CONFIGURATION", "digest"): digest_of(config),
    }


def map_rows() -> list[str]:
    """Return the table of the documentation, one line of Markdown for each field."""
    lines = []
    for register in REGISTERS:
        for index, field in enumerate(register.fields):
            first = index == 0
            place = f"0x{register.offset:02X}" if first else ""
            name = f"{register.name}" if first else ""
            top = field.low + field.width - 1
            bits = str(field.low) if field.width == 1 else f"{field.low}..{top}"
            reset = f"0x{field.reset:X}" if field.reset > 9 else str(field.reset)
            known = ("ARRAY", "PORT", "CONFIGURATION")
            lines.append(
                f"| {place} | {name} | {register.access.letters if first else ''} | {bits} "
                f"| `{field.name}` | {'of the array' if register.name in known else reset} "
                f"| {field.doc} |"
            )
    return lines
