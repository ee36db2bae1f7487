"""Strategies for codebooks: any, or those that an array's cells hold."""

from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook, Family, make_codebook, table_codebook

__all__ = ["activation_codebooks", "held_codebooks", "weight_codebooks"]


@st.composite
def weight_codebooks(draw: st.DrawFn) -> Codebook:
    """Draw a weight codebook of 2 to 8 bits: uniform, power, mid-rise, or any table."""
    bits = draw(st.integers(2, 8))
    families: list[Family] = ["uniform", "power", "power-midrise", "table"]
    family = draw(st.sampled_from(families))
    if family == "table":
        levels = draw(st.sets(st.integers(-128, 127), min_size=1, max_size=min(2**bits, 12)))
        return table_codebook(sorted(levels), bits)
    if family == "uniform":
        return make_codebook("uniform", bits, True)
    return make_codebook(family, bits, True, 127, draw(st.floats(0.2, 1.2)))


@st.composite
def activation_codebooks(draw: st.DrawFn) -> Codebook:
    """Draw an activation codebook of 2 to 8 bits, signed or not, over up to 9 bits of levels."""
    bits = draw(st.integers(2, 8))
    family = draw(st.sampled_from(["uniform", "power", "table"]))
    signed = draw(st.booleans())
    if family == "table":
        levels = draw(st.sets(st.integers(-256, 255), min_size=1, max_size=min(2**bits, 12)))
        return table_codebook(sorted(levels), bits)
    if family == "uniform":
        return make_codebook("uniform", bits, signed)
    return make_codebook("power", bits, signed, 127 if signed else 255, draw(st.floats(0.2, 1.2)))


@st.composite
def held_codebooks(draw: st.DrawFn, config: ArrayConfig, weight: bool) -> Codebook:
    """Draw a codebook that an array's cells hold in one pass, or one that is wider than its
    codes."""
    any_book = weight_codebooks() if weight else activation_codebooks()
    kind, size = config.cell, 1 << config.code_bits
    if config.mac != "product" and size < 256 and draw(st.booleans()):
        return draw(any_book.filter(lambda book: len(book) > size))
    limit = kind.weight_limit if weight else kind.activation_limit
    top = 127 if weight else 255
    found: list[int] = list(range(1, min(limit, top) + 1))
    if kind.mac == "square" and draw(st.integers(0, 3)):
        found = [k * k for k in found if k * k <= top]
    elif kind.mac == "pair":
        found = sorted(draw(st.sets(st.integers(1, top), min_size=1, max_size=min(limit, 12))))
    elif kind.mac == "product":
        fixed = kind.weight_magnitudes if weight else kind.activation_magnitudes
        found = list(fixed[1:])
    elif kind.mac == "decode":
        return draw(any_book.filter(lambda book: len(book) <= size))
    signed = sorted({0, *found, *(-level for level in found)})
    levels = draw(st.sets(st.sampled_from(signed), min_size=1, max_size=min(size, 12)))
    return table_codebook(sorted(levels), config.code_bits)
