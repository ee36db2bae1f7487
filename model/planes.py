"""Planes: a tensor with more codes than the array can index, as digits of its level.

With ``u = levels[c] - levels[0]`` in base ``2**p``, ``level = levels[0] + sum_i digit_i *
2**(p*i)``; ``levels[0]`` is folded into the table of the top digit. Each digit is one plane with
its own small table, and the product of two tensors is the sum over all pairs of planes: exact for
every codebook.
"""

from dataclasses import dataclass

import numpy as np

from nupes.model.arithmetic import Y_RANGE
from nupes.model.codebook import Codebook
from nupes.model.tensor import Format, Wide

__all__ = ["Planes", "planes_of", "split_planes", "wide_planes"]


@dataclass(frozen=True, eq=False)
class Planes:
    """The decomposition of one codebook for codes of ``code_bits`` bits.

    ``tables`` (count, 2**code_bits) int16: level of each digit, least significant plane first.
    ``digits`` (K, count) uint8: digits of each code. ``offset`` is 0 for a single plane, else the
    lowest level.
    """

    code_bits: int
    tables: np.ndarray
    digits: np.ndarray
    offset: int

    @property
    def count(self) -> int:
        """Number of planes; one more pass over the array each."""
        return len(self.tables)

    @property
    def joined(self) -> np.ndarray:
        """Each code's digits side by side, ``sum_i digit_i << (code_bits * i)``, int64 of shape
        (K,); increasing."""
        return (self.digits.astype(np.int64) << (self.code_bits * np.arange(self.count))).sum(
            axis=1
        )


def split_planes(codebook: Codebook, code_bits: int) -> Planes:
    """Return the planes of a codebook on an array that indexes ``2**code_bits`` levels.

    A codebook that fits keeps its codes as the only digit and its levels (the last one repeated) as
    the only table.
    """
    radix = 2**code_bits
    levels = codebook.levels.astype(np.int64)
    if len(levels) <= radix:
        table = np.concatenate([levels, np.full(radix - len(levels), levels[-1])])
        digits = np.arange(len(levels), dtype=np.uint8)[:, None]
        return Planes(code_bits, table[None].astype(np.int16), digits, 0)
    lowest = int(levels[0])
    span = levels - lowest
    count = -(-int(span[-1]).bit_length() // code_bits)
    weights = 1 << (code_bits * np.arange(count))
    digits = (span[:, None] // weights) % radix
    tables = np.arange(radix)[None, :] * weights[:, None]
    tables[-1] += lowest
    # Digits that no code has in the top plane could exceed the level width. The other planes stay
    # linear: the digits of a structural zero may be such that no code has them.
    tables[-1] = np.minimum(tables[-1], tables[-1, digits[:, -1].max()])
    return Planes(code_bits, tables.astype(np.int16), digits.astype(np.uint8), lowest)


def wide_planes(code_bits: int) -> Planes:
    """Return the planes of a wide tensor: digits of ``y + 32768``, indexed by that number.

    Their tables, int32, say what a digit counts; no decode table holds them.
    """
    lowest, highest = Y_RANGE
    span = np.arange(highest - lowest + 1)
    weights = 1 << (code_bits * np.arange(-(-int(span[-1]).bit_length() // code_bits)))
    digits = (span[:, None] // weights) % (1 << code_bits)
    tables = np.arange(1 << code_bits, dtype=np.int32)[None, :] * weights[:, None].astype(np.int32)
    return Planes(code_bits, tables, digits.astype(np.uint8), lowest)


def planes_of(form: Format, code_bits: int) -> Planes:
    """Return the planes in which a tensor of some format lies in memory."""
    if isinstance(form, Wide):
        return wide_planes(code_bits)
    return split_planes(form.codebook, code_bits)
