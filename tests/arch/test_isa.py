"""Layouts: they fit their words, and their entries the loads of every array."""

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.encoding import pack_instruction
from nupes.arch.isa import (
    ADDRESS_BITS,
    ATTENTION_WORDS,
    CHECKSUM_BITS,
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
    SCALE_ENTRY,
    SHIFT_ENTRY,
    Opcode,
    unpack,
    width_of,
)
from nupes.rtl.interface import ScaleEntry, ShiftEntry

PORT_BITS = 64
"""Bits of the narrowest port."""


def test_layouts_fit() -> None:
    body = INSTRUCTION_BITS - CHECKSUM_BITS
    assert width_of(INSTRUCTION) <= body
    assert RUN_POSITION + width_of(RUN) <= body
    assert width_of(DESCRIPTOR) <= PORT_BITS * ATTENTION_WORDS
    names = [item.name for item in DESCRIPTOR]
    everywhere = DESCRIPTOR[: names.index("out_wide")]
    assert width_of(everywhere) <= PORT_BITS * DESCRIPTOR_WORDS
    assert width_of(SCALE_ENTRY) <= PORT_BITS
    assert width_of(SHIFT_ENTRY) <= PORT_BITS


def test_a_run_lies_where_matmul_has_its_weights() -> None:
    names = [item.name for item in INSTRUCTION]
    ours = {"weight_address", "weight_lag", "weight_slice", "transposed"}
    assert set(names[names.index("weight_address") :]) == ours
    fields = {"opcode": Opcode.TILE, "gather_last": 1, "rows": 5}
    run = {"more": 63, "run_step": -1, "run_x": 15, "run_slices": 1}
    body = pack_instruction(fields | run) & ((1 << INSTRUCTION_BITS - CHECKSUM_BITS) - 1)
    seen = unpack(INSTRUCTION, body)
    assert {name: seen[name] for name in names if seen[name] and name not in ours} == fields
    steps = run | {"run_step": (1 << ADDRESS_BITS) - 1}
    assert unpack(RUN, body >> RUN_POSITION) == steps


def test_the_hardware_has_the_entries_of_the_tables() -> None:
    assert ScaleEntry().size == width_of(SCALE_ENTRY)
    assert ShiftEntry().size == width_of(SHIFT_ENTRY)
    assert list(ShiftEntry().members) == [item.name for item in SHIFT_ENTRY]
