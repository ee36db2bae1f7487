"""The instruction and descriptor tables of ``arch/isa.py`` as Amaranth layouts."""

from amaranth.hdl import Value
from amaranth.lib import data

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import (
    DESCRIPTOR,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
    STORE_ADDRESS,
    STORE_POSITION,
    STREAMED,
)
from nupes.rtl.interface import struct_of

__all__ = [
    "DESCRIPTOR_LAYOUT",
    "INSTRUCTION_LAYOUT",
    "RUN_LAYOUT",
    "STREAMED_LAYOUT",
    "store_address_of",
    "streamed_of",
]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

RUN_LAYOUT = struct_of(RUN)
"""The run of an instruction, from bit ``RUN_POSITION`` on."""

STREAMED_LAYOUT = struct_of(STREAMED)
"""How an instruction streams, in the bits of ``destination``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""


def streamed_of(instruction: data.View) -> data.View:
    """Return how an instruction streams through the array."""
    return data.View(STREAMED_LAYOUT, instruction.destination)


def store_address_of(instruction: data.View) -> Value:
    """Return where a STORE begins to store."""
    width = STORE_ADDRESS[0].width
    return instruction.as_value()[STORE_POSITION : STORE_POSITION + width]


assert max(INSTRUCTION_LAYOUT.size, RUN_POSITION + RUN_LAYOUT.size) < INSTRUCTION_BITS
