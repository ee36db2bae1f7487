"""MultiThreshold: requantization, activation function and encoder as thresholds on the accumulator.

y >= t   <=>   acc * mult + bias >= t << shift   <=>   acc >= ceil(((t << shift) - bias) / mult)
"""

import numpy as np

from nupes.export.qonnx.shaped import DOMAIN, Planes, Shaped, spacing
from nupes.model.arithmetic import Y_RANGE, encode_table
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder, Requantize

__all__ = ["accumulator_thresholds", "add_threshold", "first_reached", "round_up"]


def data_type(book: Codebook) -> str:
    """Return QONNX's name of the smallest integer type that holds a codebook's levels."""
    low, high = int(book.levels[0]), int(book.levels[-1])
    if low >= 0:
        return f"UINT{max(1, high.bit_length())}"
    return f"INT{max(high.bit_length(), (-low - 1).bit_length()) + 1}"


def first_reached(encoder: Encoder, book: Codebook, where: str) -> np.ndarray:
    """Return, for each code above 0, the least ``y`` that is encoded at least so high, int64.

    32768 means that no ``y`` is. Refuse a function with a turning point.
    """
    table = encode_table(encoder.thresholds, encoder.codes)
    if np.any(np.diff(table.astype(np.int64)) < 0):
        raise UnsupportedError(
            f"{where}: activation function must not decrease anywhere in QONNX's "
            "MultiThreshold; export standard ONNX"
        )
    return np.searchsorted(table, np.arange(1, len(book)), side="left") + Y_RANGE[0]


def accumulator_thresholds(tail: Requantize, reached: np.ndarray, bound: int) -> np.ndarray:
    """Return the least accumulator of each channel (n, t) whose ``y`` reaches each threshold (t,).

    Accumulators lie within ``bound``: ``-bound`` is always reached, ``bound + 1`` never.
    """
    mult, bias, shift = (
        values.astype(np.int64)[:, np.newaxis] for values in (tail.mult, tail.bias, tail.shift)
    )
    missing = (reached << shift) - bias  # at least this much of acc * mult
    least = np.where(
        mult > 0, -(-missing // np.maximum(mult, 1)), np.where(missing > 0, 2**62, -(2**62))
    )
    least = np.where(reached <= Y_RANGE[0], -(2**62), least)
    least = np.where(reached > Y_RANGE[1], 2**62, least)
    return np.clip(least, -bound, bound + 1)


def round_up(thresholds: np.ndarray) -> np.ndarray:
    """Return the least float32 that is at least each float64: equal for every float32 pixel."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(
        near.astype(np.float64) < thresholds, np.nextafter(near, np.float32(np.inf)), near
    )


def add_threshold(
    graph: Shaped, value: str, thresholds: np.ndarray, book: Codebook, shape: Planes, name: str
) -> str:
    """Append a MultiThreshold from a value of a shape to levels; thresholds (n or 1, K - 1)."""
    if thresholds.shape[1] == 0:
        thresholds = np.full((len(thresholds), 1), np.inf)
    return graph.put(
        "MultiThreshold",
        [value, graph.constant(thresholds, np.float32, f"{name}_thresholds")],
        name,
        np.float32,
        shape,
        domain=DOMAIN,
        out_dtype=data_type(book),
        out_scale=float(spacing(book, name)),
        out_bias=float(book.levels[0]),
        data_layout="NCHW",
    )
