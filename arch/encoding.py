"""Instructions as words: their fields side by side, below a checksum."""

from collections.abc import Mapping
from typing import Any

from nupes.arch.config import INSTRUCTION_BITS
from nupes.arch.isa import (
    CHECKSUM_BITS,
    CHECKSUM_SEED,
    INSTRUCTION,
    RUN,
    RUN_POSITION,
    STORE_ADDRESS,
    STORE_POSITION,
    STREAMED,
    STREAMED_POSITION,
    Opcode,
    pack,
)

__all__ = ["STORE", "checksum", "is_store", "pack_instruction"]

STORE = {"opcode": Opcode.POOL, "masked": 1}
"""The fields that make an instruction a STORE."""


def is_store(opcode: Any, masked: Any) -> Any:
    """Whether an instruction with these fields, integers or signals, is a STORE."""
    return (opcode == STORE["opcode"]) & (masked == STORE["masked"])


def checksum(body: int) -> int:
    """Return the 16-bit checksum of an instruction's low 240 bits: XOR of its 16-bit parts and a
    seed.

    Any odd number of flipped bits in a column is found; so are all-zero and all-one words.
    """
    result = CHECKSUM_SEED
    for position in range(0, INSTRUCTION_BITS - CHECKSUM_BITS, 16):
        result ^= (body >> position) & 0xFFFF
    return result


def pack_instruction(values: Mapping[str, int]) -> int:
    """Return the 256-bit instruction with its checksum; ``values`` may have the fields of ``RUN``
    in the place of those of MATMUL, that of ``STORE_ADDRESS`` in that of the addresses of results,
    and those of ``STREAMED`` in that of ``destination``."""
    left, body = dict(values), 0
    others = (RUN, RUN_POSITION), (STREAMED, STREAMED_POSITION), (STORE_ADDRESS, STORE_POSITION)
    for layout, position in others:
        body |= pack(layout, {i.name: left.pop(i.name, 0) for i in layout}) << position
    body |= pack(INSTRUCTION, left)
    return body | checksum(body) << (INSTRUCTION_BITS - CHECKSUM_BITS)
