"""The instruction and descriptor tables of ``arch/isa.py`` as Amaranth layouts."""

from amaranth.hdl import Value
from amaranth.lib import data

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import (
    CHAINED,
    CHAINED_POSITION,
    DESCRIPTOR,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
)
from nupes.rtl.interface import struct_of

__all__ = [
    "CHAINED_LAYOUT",
    "DESCRIPTOR_LAYOUT",
    "INSTRUCTION_LAYOUT",
    "RUN_LAYOUT",
    "warm_up_of",
]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

RUN_LAYOUT = struct_of(RUN)
"""The run of an instruction, from bit ``RUN_POSITION`` on."""

CHAINED_LAYOUT = struct_of(CHAINED)
"""How an instruction's rows begin, in the bits of ``destination``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""


def warm_up_of(tile: data.View) -> Value:
    """Return how many words precede the first pixel of each row of a TILE."""
    bits = tile.as_value()[CHAINED_POSITION : CHAINED_POSITION + CHAINED_LAYOUT.size]
    return data.View(CHAINED_LAYOUT, bits).warm_up


assert max(INSTRUCTION_LAYOUT.size, RUN_POSITION + RUN_LAYOUT.size) < INSTRUCTION_BITS
