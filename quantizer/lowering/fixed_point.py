"""Real factors to the integers of the contract: multiplier, shift, bias and residual."""

import numpy as np

from nupes.model.arithmetic import BIAS_BITS, MULT_MAX, SHIFT_RANGE
from nupes.model.errors import InputError
from nupes.model.layer import Requantize

__all__ = ["fits", "lower_requantize", "raise_scale", "to_fixed_point"]

BIAS_LIMIT = 2.0 ** (BIAS_BITS - 1) - 2.0 ** SHIFT_RANGE[1]
"""Largest magnitude of a rounded bias that leaves room for the rounding half."""


BEYOND = 2.0**62
"""Multipliers that no register holds are not larger than this, so that they remain integers."""

LEAST, LARGEST = 1e-60, 1e60
"""Bounds of scales, far beyond those of float32: no quotient overflows."""


def to_fixed_point(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``mult`` and ``shift`` (int64) with ``mult * 2**-shift`` near the magnitude of each
    factor.

    ``shift = clip(15 - floor(log2 M), 1, 31)`` and ``mult = floor(M * 2**shift + 0.5)``; a rounding
    to 65536 becomes 32768 and one shift less. A factor of 0 gives ``mult = 0``.
    """
    factor = np.abs(np.asarray(factor, np.float64))
    exponent = np.frexp(np.where(factor > 0, factor, 1.0))[1] - 1
    shift = np.clip(15 - exponent, *SHIFT_RANGE).astype(np.int64)
    mult = np.floor(np.minimum(np.ldexp(factor, shift), BEYOND) + 0.5).astype(np.int64)
    carry = (mult == MULT_MAX + 1) & (shift > SHIFT_RANGE[0])
    return np.where(carry, mult // 2, mult), shift - carry


def fits(factor: np.ndarray, bias: np.ndarray, residual: float | None = None) -> bool:
    """Whether every factor and every bias (in units of ``y``) can be represented."""
    mult, shift = to_fixed_point(factor)
    if mult.max(initial=0) > MULT_MAX or np.abs(np.ldexp(bias, shift)).max(initial=0) > BIAS_LIMIT:
        return False
    return residual is None or to_fixed_point(np.array([residual]))[0][0] <= MULT_MAX


def raise_scale(
    y_scale: float,
    factor: np.ndarray,
    bias: np.ndarray,
    residual: float | None = None,
    where: str = "layer",
) -> float:
    """Return the smallest ``y_scale * 2**k``, k >= 0, with which every channel fits; raise
    ``InputError`` for ``where`` if there is none.

    ``factor``, ``bias`` and ``residual`` are real: they are divided by the scale.
    """
    real = np.concatenate([[y_scale, residual or 0.0], factor, bias])
    largest = float(np.abs(real).max())
    if not (largest <= LARGEST and LEAST <= y_scale):
        raise InputError(
            f"{where}: scales and biases must be {LEAST:g} to {LARGEST:g} in magnitude, not "
            f"{largest if LEAST <= y_scale else y_scale:g}; scale the values of the layers before"
        )
    while not fits(
        factor / y_scale, bias / y_scale, None if residual is None else residual / y_scale
    ):
        y_scale *= 2
    return y_scale


def lower_requantize(factor: np.ndarray, bias: np.ndarray) -> Requantize:
    """Return the integers of ``acc * factor + bias``, both (n,) in units of ``y``; the rounding
    half is in the bias."""
    mult, shift = to_fixed_point(factor)
    rounded = np.rint(np.ldexp(bias, shift)).astype(np.int64)
    return Requantize(
        (np.sign(factor) * mult).astype(np.int32),
        rounded + (np.int64(1) << (shift - 1)),
        shift.astype(np.int32),
    )
