"""What an array costs: the bits of its memories, exactly, and of what each gives at a time."""

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

__all__ = ["access_bits", "memory_bits"]

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


def access_bits(array: ArrayConfig) -> dict[str, int]:
    """Return the memories of an array by name, and how many bits are read or written at a time;
    ``weights`` are the registers of the cells, which weights wait in."""
    bits = {
        "activations": array.word_bits,
        "weights": array.cell.weight_bits,
        "accumulators": array.acc_bits,
        "activation_tables": array.level_entry_bits,
        "weight_tables": array.cell.weight_bits,
        "residual_tables": array.activation_level_bits,
        "scales": width_of(SCALE_ENTRY),
        "shifts": width_of(SHIFT_ENTRY),
        "thresholds": Y_BITS,
        "codes": array.joined_bits,
        "fetch_buffer": array.port_bits,
        "result_queue": Y_BITS * array.cols,
    }
    if array.mac == "pair":
        bits["product_tables"] = array.product_bits
    if array.attention:
        bits["token_tables"] = array.activation_level_bits
        bits["token_sums"] = SUMS_BITS
        bits["token_factors"] = FACTOR_BITS
        bits["token_tags"] = tag_bits(array)
    if array.spills:
        bits["store_queue"] = STORE_ADDRESS[0].width + array.word_bits
    return bits


def tag_bits(array: ArrayConfig) -> int:
    """Return the bits of what is known of a token on its way: its number, whether it is the last
    one, its offset."""
    return clog2(array.acc_depth) + 1 + 32


def attention_bits(array: ArrayConfig) -> int:
    """Return the bits of the token memory, and of the statistics unit's sums, decode tables and
    tokens on their way."""
    if not array.attention:
        return 0
    table = (array.table_slots << array.code_bits) * array.activation_level_bits
    tags = TOKENS_UNDER_WAY * tag_bits(array)
    tokens = array.acc_depth * (FACTOR_BITS + SUMS_BITS) + tags
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
