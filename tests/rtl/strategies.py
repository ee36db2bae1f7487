"""Hypothesis strategies for the hardware: configurations and operands, extremes included."""

import numpy as np
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook

__all__ = ["SHAPES", "codebooks", "configs", "signed_integers", "unsigned_integers"]

SHAPES = ((2, 2), (4, 4), (2, 8), (8, 2), (3, 6), (6, 3), (5, 5))
"""Small arrays: square, more columns, more rows, no power of two."""


def signed_integers(bits: int) -> st.SearchStrategy[int]:
    """Return signed integers of ``bits`` bits; every third one is an extreme."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    extremes = st.sampled_from([low, low + 1, -1, 0, 1, high - 1, high])
    return st.integers(low, high) | st.integers(low, high) | extremes


def unsigned_integers(bits: int) -> st.SearchStrategy[int]:
    """Return unsigned integers of ``bits`` bits; every third one is an extreme."""
    high = (1 << bits) - 1
    return st.integers(0, high) | st.integers(0, high) | st.sampled_from([0, 1, high - 1, high])


@st.composite
def configs(draw: st.DrawFn, shapes: tuple[tuple[int, int], ...] = SHAPES) -> ArrayConfig:
    """Return small configurations with every code width and kind of cell."""
    rows, cols = draw(st.sampled_from(shapes))
    mac = draw(st.sampled_from(("decode", "decode", "uniform", "square", "pair")))
    code_bits = draw(st.integers(2, 8 if mac in ("decode", "uniform") else 4))
    return ArrayConfig(
        rows=rows,
        cols=cols,
        code_bits=code_bits,
        mac=mac,
        products=draw(st.booleans()),
        weight_level_bits=draw(st.integers(2, 8)),
        activation_level_bits=draw(st.integers(2, 9)),
        acc_depth=draw(st.sampled_from([4, 5, 16])),
        act_depth=64,
        param_slots=draw(st.sampled_from([2, 3, 8])),
        tensor_bits=draw(st.integers(code_bits, 8)),
    )


@st.composite
def codebooks(draw: st.DrawFn, level_bits: int, bits: int = 8) -> Codebook:
    """Return codebooks with any levels of ``level_bits`` signed bits."""
    low, high = -(1 << (level_bits - 1)), (1 << (level_bits - 1)) - 1
    size = draw(st.integers(1, min(1 << bits, high - low + 1)))
    seed = draw(st.integers(0, 2**32 - 1))
    levels = np.random.default_rng(seed).choice(np.arange(low, high + 1), size, replace=False)
    return Codebook(np.sort(levels), bits)
