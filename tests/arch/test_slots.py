"""Slots: every one that an array has can be named, and addresses of LOAD do not overlap."""

import pytest

from nupes.arch.config import PARAM_SLOT_BITS, TABLE_SLOT_BITS, ArrayConfig
from nupes.arch.isa import DESCRIPTOR_WORDS, Destination, entry_bits
from nupes.rtl.interface import ShiftEntry

ARRAYS = [
    *(ArrayConfig(4, 4, code_bits=bits) for bits in range(2, 9)),
    *(ArrayConfig(4, 4, code_bits=bits, mac="uniform") for bits in range(2, 9)),
    ArrayConfig(2, 2, code_bits=2, mac="square", param_slots=256),
    ArrayConfig(6, 3, code_bits=2, mac="pair", tensor_bits=2),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.mac}{array.code_bits}")
def test_every_slot_can_be_named(array: ArrayConfig) -> None:
    assert array.passes <= array.table_slots <= 1 << TABLE_SLOT_BITS
    assert array.param_slots <= 1 << PARAM_SLOT_BITS
    assert ShiftEntry()["residual_slot"].width == TABLE_SLOT_BITS


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.mac}{array.code_bits}")
def test_a_slot_has_room_for_its_entries(array: ArrayConfig) -> None:
    nodes = 1 << array.encoder_stages
    sizes = {
        Destination.ACTIVATION: 1,
        Destination.WEIGHT_TABLE: 1 << array.code_bits,
        Destination.ACTIVATION_TABLE: 1 << array.code_bits,
        Destination.RESIDUAL_TABLE: 1 << array.code_bits,
        Destination.SCALE: array.cols,
        Destination.SHIFT: array.cols,
        Destination.THRESHOLD: nodes,
        Destination.MAP: nodes,
        Destination.DESCRIPTOR: DESCRIPTOR_WORDS,
        Destination.PRODUCT: 1,
        Destination.FENCE: 1,
    }
    for destination in Destination:
        bits = entry_bits(destination, array)
        assert 1 << bits >> 1 < sizes[destination] <= 1 << bits
