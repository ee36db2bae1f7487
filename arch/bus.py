"""The bus around the accelerator: how program and results lie in memory, how a run ends.

Hardware, simulator and drivers share this file. A port word lies in whole bytes, one word right
behind the other, least significant byte first; a result is ``cols`` 16-bit numbers, lane 0 first.
"""

from enum import IntEnum

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.model.errors import InputError

__all__ = [
    "BUSES",
    "DATA_BITS",
    "BusStatus",
    "check_bus",
    "memory_image",
    "result_bytes",
    "word_bytes",
]

BUSES = ("axi4",)
"""Kinds of buses."""

DATA_BITS = (64, 128)
"""Bits of a beat."""


class BusStatus(IntEnum):
    """How a run over a bus ended: the accelerator's ``Status``, or what the bus adds to it."""

    RUNNING = 0
    """The run has not ended."""
    OK = 1
    """Every result is in memory."""
    BAD_INSTRUCTION = 2
    """A word of the program is not an instruction, or its checksum is wrong."""
    TIMEOUT = 3
    """Nothing moved for `watchdog` cycles."""
    READ_SLVERR = 4
    """A read of the program was answered SLVERR."""
    READ_DECERR = 5
    """A read of the program was answered DECERR: there is no memory at this address."""
    WRITE_SLVERR = 6
    """A write of results was answered SLVERR."""
    WRITE_DECERR = 7
    """A write of results was answered DECERR: there is no memory at this address."""
    OVERFLOW = 8
    """The program has more results than RESULT_LIMIT; none beyond it was written."""
    ABORTED = 9
    """Software has ended the run."""


def check_bus(bus: str | None, data_bits: int | None, config: ArrayConfig) -> int | None:
    """Return the bits of a beat: by default 64 if a port word fits them, else 128; None without a
    bus. Raise ``InputError`` if there is no such bus."""
    if bus is None:
        if data_bits is not None:
            raise InputError(f"bus_bits must be given with a bus, not {data_bits} without one")
        return None
    if bus not in BUSES:
        raise InputError(f"bus must be one of {', '.join(BUSES)}, not {bus!r}")
    if config.spills:
        raise InputError(
            f"bus must be None with spills=True, not {bus!r}: it does not store what does not fit "
            "the activation memory yet; use a larger act_depth, and spills=False"
        )
    if data_bits is None:
        return DATA_BITS[0] if config.port_bits <= DATA_BITS[0] else DATA_BITS[1]
    if data_bits not in DATA_BITS:
        known = ", ".join(map(str, DATA_BITS))
        raise InputError(f"bus_bits must be one of {known}, not {data_bits}")
    return data_bits


def word_bytes(port_bits: int) -> int:
    """Return the bytes that a port word takes in memory."""
    return -(-port_bits // 8)


def result_bytes(cols: int) -> int:
    """Return the bytes that a result of all lanes takes in memory."""
    return 2 * cols


def memory_image(words: np.ndarray, port_bits: int, data_bits: int) -> np.ndarray:
    """Return the bytes of a program in memory, uint8 (n,): word i from byte ``i *
    word_bytes(port_bits)`` on, zeros behind the last word up to a whole beat.

    ``words``: uint64 (m, ceil(port_bits / 64)), as ``Program.image`` and the words of
    ``Program.input_patches`` are.
    """
    size, beat = word_bytes(port_bits), data_bits // 8
    raw = np.ascontiguousarray(words, "<u8").view(np.uint8).reshape(len(words), -1)[:, :size]
    flat = raw.reshape(-1)
    return np.concatenate([flat, np.zeros(-len(flat) % beat, np.uint8)])
