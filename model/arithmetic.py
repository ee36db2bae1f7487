"""The integer arithmetic of the contract: saturation, requantization, residual term, encoding,
exact products.

Every function is pure and works on NumPy integers of any shape; the hardware equals each of them on
every input.
"""

import numpy as np

from nupes.model.errors import CapacityError

__all__ = [
    "ACC_BITS",
    "BIAS_BITS",
    "MULT_MAX",
    "SHIFT_RANGE",
    "Y_RANGE",
    "encode",
    "encode_table",
    "exact_float",
    "exact_matmul",
    "requantize",
    "residual_term",
    "saturate",
    "shift_thresholds",
]

ACC_BITS = 32
BIAS_BITS = 48
MULT_MAX = 65535
"""Largest magnitude of a multiplier."""

SHIFT_RANGE = (1, 31)
Y_RANGE = (-32768, 32767)

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53


def saturate(value: np.ndarray, bits: int) -> np.ndarray:
    """Clamp integers to the range of a signed ``bits``-bit number."""
    return np.clip(value, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def residual_term(level: np.ndarray, mult: np.ndarray | int, shift: np.ndarray | int) -> np.ndarray:
    """Return ``(level * mult + 2**(shift-1)) >> shift`` in int64: a skip tensor's level in units of
    ``y``."""
    shift = np.asarray(shift, np.int64)
    return (np.asarray(level, np.int64) * mult + (np.int64(1) << (shift - 1))) >> shift


def requantize(
    acc: np.ndarray,
    mult: np.ndarray,
    bias: np.ndarray,
    shift: np.ndarray,
    residual: np.ndarray | int = 0,
) -> np.ndarray:
    """Return ``y = sat16(((acc * mult + bias) >> shift) + residual)`` as int16.

    ``acc`` is signed 32-bit of shape (..., n); ``mult`` (-65535..65535), ``bias`` (signed 48-bit,
    carrying the rounding half) and ``shift`` (1..31) are per channel, shape (n,). The shift is
    arithmetic; the only saturation is the last step.
    """
    # In place: a new array for each step would take five times as long.
    y = np.multiply(acc, mult, dtype=np.int64)
    y += bias
    y >>= shift
    y += residual
    return saturate(y, 16).astype(np.int16)


def encode(y: np.ndarray, thresholds: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return ``codes[#{k : y >= thresholds[k]}]``: the pointwise function and the quantizer in one
    step."""
    return codes[np.searchsorted(thresholds, y, side="right")]


def encode_table(thresholds: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the code of every int16 ``y`` as a uint8 table of 65,536 entries, indexed by ``y +
    32768``."""
    y = np.arange(Y_RANGE[0], Y_RANGE[1] + 1)
    return encode(y, thresholds, codes)


def shift_thresholds(levels: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds, int16, and codes, uint8, that give an int16 ``y`` the code of ``(y +
    2**(shift-1)) >> shift``, clamped to ``levels``, which are consecutive integers.

    Level ``l`` is reached from ``l * 2**shift - 2**(shift-1)`` on; one that no ``y`` reaches, or
    every one exceeds, has no threshold.
    """
    starts = (levels[1:].astype(np.int64) << shift) - (1 << (shift - 1))
    lowest = int((starts <= Y_RANGE[0]).sum())
    some = starts[(starts > Y_RANGE[0]) & (starts <= Y_RANGE[1])]
    return some.astype(np.int16), np.arange(lowest, lowest + len(some) + 1, dtype=np.uint8)


def exact_float(bound: int) -> type[np.float32] | type[np.float64]:
    """Return the floating-point type that holds every integer of magnitude up to ``bound``:
    float32 below 2**24, float64 below 2**53; raise ``CapacityError`` beyond."""
    if bound >= FLOAT64_EXACT:
        raise CapacityError(f"exact product must stay below 2**53, not {bound}")
    return np.float32 if bound < FLOAT32_EXACT else np.float64


def exact_matmul(left: np.ndarray, right: np.ndarray, bound: int) -> np.ndarray:
    """Return the integer product ``left @ right`` through floating-point BLAS.

    The result is int32 for a ``bound`` below 2**31, else int64.

    ``bound`` must be at least the sum of an output's positive products ``left[m,k] * right[k,n]``,
    and minus that of its negative ones. Every partial sum, in whatever order BLAS forms it, lies
    between the two, an integer of magnitude at most ``bound``, which ``exact_float(bound)`` holds;
    no rounding ever happens. Operands may already be floating-point
    integers.
    """
    dtype = exact_float(bound)
    product = np.asarray(left, dtype) @ np.asarray(right, dtype)
    return product.astype(np.int32 if bound < 2**31 else np.int64)
