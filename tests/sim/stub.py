"""The stub accelerator: its Verilog, its programs, and the cycles in which its words arrive."""

from pathlib import Path

import numpy as np

from nupes.arch.config import ArrayConfig

__all__ = ["BURST", "CRASH", "ECHO", "HANG", "SMALL", "arrivals", "echo", "stub"]

ECHO, CRASH, HANG = 1, 2, 3
BURST = 32
SMALL = ArrayConfig(rows=4, cols=4)


def stub(config: ArrayConfig) -> str:
    """Return the Verilog of the stub for a configuration."""
    text = Path(__file__).with_name("stub.v").read_text()
    return f"`define PORT_BITS {config.port_bits}\n`define COLS {config.cols}\n{text}"


def echo(payload: np.ndarray) -> np.ndarray:
    """Return the program that echoes 64-bit words."""
    return np.concatenate([[np.uint64(ECHO | len(payload) << 8)], payload]).astype(np.uint64)


def arrivals(words: int, latency: int) -> list[int]:
    """Return the cycle, counted from ``start``, in which each word arrives: the bench's contract.

    Requests come as early as they can: the first in cycle 1, the next ones in the cycle after, or
    in the cycle after the last word of the burst before the previous one.
    """
    last_words: list[int] = []
    cycles: list[int] = []
    accepted = 0
    for burst in range(-(-words // BURST)):
        accepted = max(accepted + 1, last_words[burst - 2] + 1 if burst >= 2 else 0)
        first = max(accepted + latency, last_words[-1] + 1 if burst else 0)
        cycles += range(first, first + BURST)
        last_words.append(cycles[-1])
    return cycles[:words]
