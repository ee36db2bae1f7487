"""The instruction and descriptor tables of ``arch/isa.py`` as Amaranth layouts."""

from amaranth.lib import data

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import DESCRIPTOR, INSTRUCTION, JOIN, RUN, RUN_POSITION
from nupes.rtl.interface import struct_of

__all__ = ["DESCRIPTOR_LAYOUT", "INSTRUCTION_LAYOUT", "RUN_LAYOUT", "join_of"]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

RUN_LAYOUT = struct_of(RUN)
"""The run of an instruction, from bit ``RUN_POSITION`` on."""

JOIN_LAYOUT = struct_of(JOIN)
"""What is joined, in the low bits of ``destination``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""

assert max(INSTRUCTION_LAYOUT.size, RUN_POSITION + RUN_LAYOUT.size) < INSTRUCTION_BITS


def join_of(instruction: data.View) -> data.View:
    """Return what an instruction that streams joins."""
    return data.View(JOIN_LAYOUT, instruction.destination[: JOIN_LAYOUT.size])
