"""What an array costs: the bits of its memories, exactly."""

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    BANKS,
    ENCODER_SLOTS,
    SCALE_ENTRY,
    SHIFT_ENTRY,
    STORE_ADDRESS,
    Y_BITS,
    width_of,
)
from nupes.arch.pipeline import TOKENS_UNDER_WAY, clog2

__all__ = ["memory_bits"]

FACTOR_BITS = 32 + 16 + 5
"""Offset, mantissa and shift of a token's factor."""

SUMS_BITS = 16 + 32 + 45
"""Largest level, sum and sum of squares of a token."""


def memory_bits(array: ArrayConfig) -> int:
    """Return the bits of all memories of an array but its queues of addresses: activations,
    accumulators, decode tables, product tables, lane parameters, encoders, factors of tokens, fetch
    buffer, and the queues of results and of stored words.
    """
    return (
        BANKS * -(-array.act_depth // BANKS) * array.word_bits
        + array.cols * lane_bits(array)
        + decoder_bits(array)
        + array.rows * array.cols * product_table_bits(array)
        + attention_bits(array)
        + array.fetch_depth * array.port_bits
        + array.result_depth * Y_BITS * array.cols
        + array.spills * array.store_depth * (STORE_ADDRESS[0].width + array.word_bits)
    )


def attention_bits(array: ArrayConfig) -> int:
    """Return the bits of the token memory, and of the statistics unit's sums, decode tables and
    tokens on their way."""
    if not array.attention:
        return 0
    table = (array.table_slots << array.code_bits) * array.activation_level_bits
    tag = clog2(array.acc_depth) + 1 + 32  # number, whether it is the last one, offset
    tokens = array.acc_depth * (FACTOR_BITS + SUMS_BITS) + TOKENS_UNDER_WAY * tag
    return tokens + array.lanes * table


def lane_bits(array: ArrayConfig) -> int:
    """Return the bits of a lane's accumulators, parameters, search trees and maps."""
    codes = 1 << array.encoder_stages
    encoder = codes * array.joined_bits + (codes - 1) * Y_BITS
    return (
        array.acc_depth * array.acc_bits
        + array.param_slots * (width_of(SCALE_ENTRY) + width_of(SHIFT_ENTRY))
        + ENCODER_SLOTS * encoder
    )


def decoder_bits(array: ArrayConfig) -> int:
    """Return the bits of all decode tables: operands of the activations for each row; of the
    weights, and levels of the skip tensor, for each column; and the offsets of joined digits."""
    columns = array.cell.weight_bits + array.activation_level_bits
    entry = array.rows * array.level_entry_bits + array.cols * columns
    offsets = array.table_slots * array.activation_level_bits * array.joins
    return (array.table_slots << array.code_bits) * entry + offsets


def product_table_bits(array: ArrayConfig) -> int:
    """Return the bits of a cell's table of products, which pair cells alone have as a memory."""
    return array.product_bits << array.table_bits if array.mac == "pair" else 0
