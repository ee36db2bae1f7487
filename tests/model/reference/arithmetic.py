"""Saturation, requantization, residual term and encoding of Python integers."""

from collections.abc import Sequence

__all__ = ["encode", "requantize", "residual_term", "shifted"]


def saturate(value: int, bits: int) -> int:
    """Clamp to a signed number of ``bits`` bits."""
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def requantize(acc: int, mult: int, bias: int, shift: int, residual: int = 0) -> int:
    """Return ``y``; Python's ``//`` floors, as an arithmetic shift does."""
    return saturate((acc * mult + bias) // 2**shift + residual, 16)


def residual_term(level: int, mult: int, shift: int) -> int:
    """Return what a skip tensor's level adds to ``y``."""
    return (level * mult + 2 ** (shift - 1)) // 2**shift


def encode(y: int, thresholds: Sequence[int], codes: Sequence[int]) -> int:
    """Count the thresholds that ``y`` reaches; map the count."""
    return codes[sum(y >= threshold for threshold in thresholds)]


def shifted(y: int, shift: int, levels: Sequence[int]) -> int:
    """Return the code of the nearest level that a shift gives, a tie upward."""
    level = (y + 2 ** (shift - 1)) // 2**shift
    return levels.index(max(levels[0], min(levels[-1], level)))
