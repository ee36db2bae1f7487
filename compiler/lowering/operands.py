"""Operands: what the weights and the input of a layer are in the cells of an array, and refusals
by name."""

from dataclasses import dataclass, replace

import numpy as np

from nupes.arch.cells import (
    CELLS,
    Operands,
    holds,
    operands,
    product_table,
    requirement,
)
from nupes.arch.config import ArrayConfig
from nupes.model.codebook import Codebook
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer
from nupes.model.operators import Conv
from nupes.model.planes import Planes, split_planes
from nupes.model.tensor import Tensor

__all__ = ["LayerOperands", "entries", "layer_operands", "pair_entries"]


@dataclass(frozen=True, eq=False)
class LayerOperands:
    """Both operands of a layer; ``digits`` is how its weights are stored (None: an identity)."""

    weights: Operands
    activations: Operands
    digits: Planes | None

    def weight_entries(self, index: int, config: ArrayConfig) -> np.ndarray:
        """Return the decode table of a weight pass, as the hardware's bits: int16."""
        table = entries(self.weights, index, config)
        return operand_bits(table, config.cell.weight_bits, config)

    def activation_entries(self, index: int, config: ArrayConfig) -> np.ndarray:
        """Return the decode table of an activation pass, as the hardware's bits: int16."""
        table, bits = entries(self.activations, index, config), config.cell.activation_bits
        linear = int(self.activations.linear) & config.linear_bit
        return operand_bits(table, bits, config) | linear << bits


def entries(side: Operands, index: int, config: ArrayConfig) -> np.ndarray:
    """Return what a decode table has for a pass: of joined digits the level of digits 0 alone."""
    joined = any(side.joined[index : index + 1])
    return side.tables[index][: 1 if joined else 1 << config.code_bits]


def operand_bits(table: np.ndarray, bits: int, config: ArrayConfig) -> np.ndarray:
    """Return operands as decode table entries: levels, or a sign bit above the magnitude."""
    if config.mac == "decode":
        return table
    return np.abs(table) | (table < 0).astype(np.int16) << (bits - 1)


def pair_entries(layer: LayerOperands, config: ArrayConfig) -> np.ndarray:
    """Return the product table of a pair cell, in the order of its addresses; int64."""
    return product_table(config.cell, layer.weights, layer.activations).reshape(-1)


def layer_operands(
    layer: Layer, source: Tensor, stored: Planes, config: ArrayConfig
) -> LayerOperands:
    """Return the operands of a layer whose input is stored as ``stored``.

    Raise ``UnsupportedError`` with the layer's name for a codebook that the cells cannot hold.
    """
    kind = config.cell
    where = f"layer {layer.name!r}"
    check_held(f"{where}: levels of its input {source.name!r}", source.codebook, False, config)
    if not isinstance(layer.op, Conv):
        return LayerOperands(*operands(kind, None, stored), None)
    book = layer.op.codebook
    check_held(f"{where}: levels of its weights", book, True, config)
    bits = config.code_bits
    if len(book) > 1 << bits and config.mac != "decode":
        bits = min(bits, kind.weight_bits - 1)  # a stored digit is then one operand
    digits = split_planes(book, bits)
    weights, activations = operands(kind, digits, stored)
    return LayerOperands(weights, activations, digits)


def check_held(where: str, book: Codebook, weight: bool, config: ArrayConfig) -> None:
    """Refuse a codebook that the array's cells cannot hold; say which cells can."""
    wide = len(book) > 1 << config.code_bits
    if (wide and config.mac != "product") or (not wide and holds(config.cell, book.levels, weight)):
        return
    if wide:
        rule = f"{1 << config.code_bits} at most (product cells have no planes)"
        found = f"{len(book)}"
    else:
        rule = f"{requirement(config.cell, weight)} for mac={config.mac!r}"
        found = f"{book.levels.tolist()}" if len(book) <= 16 else f"{book.family} {book.bits}-bit"
    able = [
        mac
        for mac in CELLS[:-1]
        if (other := other_config(config, mac)) is not None
        and (wide or holds(other.cell, book.levels, weight))
    ]
    raise UnsupportedError(f"{where} must be {rule}, not {found}; mac that can: {', '.join(able)}")


def other_config(config: ArrayConfig, mac: str) -> ArrayConfig | None:
    """Return the array with cells of another kind and operands as wide as its codes, if it
    exists."""
    try:
        return replace(
            config,
            mac=mac,
            weight_operand_bits=0,
            activation_operand_bits=0,
            weight_magnitudes=(),
            activation_magnitudes=(),
        )
    except ValueError:
        return None
