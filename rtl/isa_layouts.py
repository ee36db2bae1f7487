"""The instruction and descriptor tables of ``arch/isa.py`` as Amaranth layouts."""

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import DESCRIPTOR, INSTRUCTION
from nupes.rtl.interface import struct_of

__all__ = ["DESCRIPTOR_LAYOUT", "INSTRUCTION_LAYOUT"]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""

assert INSTRUCTION_LAYOUT.size < INSTRUCTION_BITS
