"""The token stage: one factor for each token, a mantissa of 16 bits and a shift, and the two
reciprocals that give it.

Every function is pure and works on NumPy integers of any shape. What each of them must be given is
an argument's range below; within it nothing leaves the widths that docs/numerics.md states, and
every intermediate value fits int64.
"""

import numpy as np

__all__ = [
    "FRACTION_BITS",
    "MANTISSA_MAX",
    "MOST_CHANNELS",
    "ROOT_BITS",
    "bit_length",
    "moments",
    "reciprocal",
    "reciprocal_root",
    "scale_tokens",
]

FRACTION_BITS = 15
"""Bits behind the binary point of what the token stage makes."""

MANTISSA_MAX = 65535

MOST_CHANNELS = 1 << 14
"""Most channels of a normalized token."""

ROOT_BITS = 30
"""Bits of the number whose root is taken, at most."""


def bit_length(values: np.ndarray) -> np.ndarray:
    """Return the bits of non-negative int64 numbers below 2**63: 0 for 0, 1 for 1."""
    rest, length = np.asarray(values, np.int64), np.zeros(np.shape(values), np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        large = rest >> step != 0
        length += large * step
        rest = np.where(large, rest >> step, rest)
    return length + rest


def scale_tokens(values: np.ndarray, mantissa: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return ``(values * mantissa + 2**(shift - 1)) >> shift``, int64.

    ``values`` are signed 32-bit, ``mantissa`` 1..65535, ``shift`` 1..32: the sum has 49 bits.
    """
    shift = np.asarray(shift, np.int64)
    product = np.asarray(values, np.int64) * mantissa
    return (product + (np.int64(1) << (shift - 1))) >> shift


def reciprocal(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mantissa 32768..65535 and shift 1..31 of ``2**15 / total``, int64.

    ``total`` is below 2**31; one below 2 counts as 2. With ``b`` bits of the total the mantissa is
    ``2**(15 + b) / total``, rounded to the nearest; one of 2**16 becomes 2**15 with a shift that is
    one less.
    """
    total = np.maximum(np.asarray(total, np.int64), 2)
    bits = bit_length(total)
    mantissa = ((np.int64(1) << (FRACTION_BITS + bits)) + (total >> 1)) // total
    carry = mantissa > MANTISSA_MAX
    return np.where(carry, 1 << FRACTION_BITS, mantissa), bits - carry


def moments(values: np.ndarray, centered: bool, epsilon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``S1``, the sum over the last axis (0 if not ``centered``), and ``D = n * S2 - S1**2 +
    epsilon``, with ``S2`` the sum of squares; both int64 with a last axis of 1.

    ``values`` are signed 16-bit, n at most 2**14, ``epsilon`` in 1..n**2 * 2**30 - 1: D is below
    ``n**2 * 2**31``, at most 2**59. It is at least 1, because n * S2 >= S1**2 (Cauchy-Schwarz).
    """
    x = np.asarray(values, np.int64)
    first = x.sum(axis=-1, keepdims=True) if centered else np.zeros((*x.shape[:-1], 1), np.int64)
    second = np.square(x).sum(axis=-1, keepdims=True)
    return first, x.shape[-1] * second - np.square(first) + epsilon


def reciprocal_root(variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mantissa 32768..65535 and shift 1..31 of ``2**15 / sqrt(variance)``, int64.

    ``variance`` is in 1..2**61 - 1. Its ``j`` low bits are dropped, an even number, so that at most
    30 are left, ``d``; with ``c = ceil(bits of d / 2)`` the mantissa is the largest ``m`` of 16
    bits with ``m**2 * d <= 4**(15 + c)``, and the shift ``c + j / 2``.

    ``4**(c - 1) <= d < 4**c``, so ``m`` is at least 2**15 and all 16 bits are used; neither side of
    the comparison exceeds 2**62.
    """
    variance = np.asarray(variance, np.int64)
    dropped = np.maximum(bit_length(variance) - ROOT_BITS, 0)
    dropped += dropped & 1
    d = variance >> dropped
    half = (bit_length(d) + 1) >> 1
    limit = np.int64(1) << (2 * (FRACTION_BITS + half))
    mantissa = np.zeros_like(d)
    for bit in reversed(range(MANTISSA_MAX.bit_length())):
        trial = mantissa | 1 << bit
        mantissa = np.where(np.square(trial) * d <= limit, trial, mantissa)
    return mantissa, half + (dropped >> 1)
