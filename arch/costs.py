"""What an array costs: the bits of its memories, exactly."""

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import ENCODER_SLOTS

__all__ = ["memory_bits"]

SCALE_BITS, SHIFT_BITS = 64, 41
"""Entries of the lane parameters."""


def memory_bits(array: ArrayConfig) -> int:
    """Return the bits of all memories of an array but its queues of addresses: activations,
    accumulators, decode tables, lane parameters, encoders, fetch buffer and result queue."""
    encoder = (1 << array.encoder_stages) * array.joined_bits + (
        (1 << array.encoder_stages) - 1
    ) * 16
    lane = (
        array.acc_depth * array.acc_bits
        + array.param_slots * (SCALE_BITS + SHIFT_BITS)
        + ENCODER_SLOTS * encoder
    )
    entries = array.table_slots << array.code_bits
    # One decoder for each row's activations, one for each column's weights, one for its skip
    # tensor.
    levels = (array.rows + array.cols) * array.activation_level_bits
    levels += array.cols * array.weight_level_bits
    return (
        array.act_depth * array.word_bits
        + array.cols * lane
        + entries * levels
        + array.fetch_depth * array.port_bits
        + array.result_depth * 16 * array.cols
    )
