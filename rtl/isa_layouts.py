"""The instruction and descriptor tables of ``arch/isa.py`` as Amaranth layouts."""

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import CHAINED, DESCRIPTOR, INSTRUCTION, RUN, RUN_POSITION
from nupes.rtl.interface import struct_of

__all__ = ["CHAINED_LAYOUT", "DESCRIPTOR_LAYOUT", "INSTRUCTION_LAYOUT", "RUN_LAYOUT"]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

RUN_LAYOUT = struct_of(RUN)
"""The run of an instruction, from bit ``RUN_POSITION`` on."""

CHAINED_LAYOUT = struct_of(CHAINED)
"""How an instruction's rows begin, in the bits of ``destination``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""

assert max(INSTRUCTION_LAYOUT.size, RUN_POSITION + RUN_LAYOUT.size) < INSTRUCTION_BITS
