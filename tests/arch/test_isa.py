"""Layouts: they fit their words, and their entries the loads of every array."""

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import (
    ATTENTION_WORDS,
    CHECKSUM_BITS,
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    INSTRUCTION,
    SCALE_ENTRY,
    SHIFT_ENTRY,
    width_of,
)
from nupes.rtl.interface import ScaleEntry, ShiftEntry

PORT_BITS = 64
"""Bits of the narrowest port."""


def test_layouts_fit() -> None:
    assert width_of(INSTRUCTION) <= INSTRUCTION_BITS - CHECKSUM_BITS
    assert width_of(DESCRIPTOR) <= PORT_BITS * ATTENTION_WORDS
    names = [item.name for item in DESCRIPTOR]
    everywhere = DESCRIPTOR[: names.index("out_wide")]
    assert width_of(everywhere) <= PORT_BITS * DESCRIPTOR_WORDS
    assert width_of(SCALE_ENTRY) <= PORT_BITS
    assert width_of(SHIFT_ENTRY) <= PORT_BITS


def test_the_hardware_has_the_entries_of_the_tables() -> None:
    assert ScaleEntry().size == width_of(SCALE_ENTRY)
    assert ShiftEntry().size == width_of(SHIFT_ENTRY)
    assert list(ShiftEntry().members) == [item.name for item in SHIFT_ENTRY]
