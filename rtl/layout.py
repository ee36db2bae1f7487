"""The instruction and descriptor tables of ``isa.py`` as Amaranth layouts, and the place of a
word's planes."""

from amaranth.lib import data

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import ADDRESS_BITS, DESCRIPTOR, INSTRUCTION
from nupes.rtl.interface import struct_of

__all__ = ["DESCRIPTOR_LAYOUT", "INSTRUCTION_LAYOUT", "PlaneRun"]

INSTRUCTION_LAYOUT = struct_of(INSTRUCTION)
"""An instruction without its checksum, in the low bits of ``INSTRUCTION_BITS``."""

DESCRIPTOR_LAYOUT = struct_of(DESCRIPTOR)
"""A layer descriptor, in the low bits of its words."""

assert INSTRUCTION_LAYOUT.size < INSTRUCTION_BITS


class PlaneRun(data.StructLayout):
    """Where the planes of one word are: plane ``i``, least significant first, at ``address + i *
    plane_step``.

    ``planes``: how many (0 for a residual that does not exist); ``slice``: which ``cols`` codes of
    the word belong to the tile.
    """

    def __init__(self) -> None:
        super().__init__(
            {"address": ADDRESS_BITS, "plane_step": ADDRESS_BITS, "planes": 3, "slice": 4}
        )
