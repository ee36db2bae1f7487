"""Weight tiles: how each operator is cut into passes of ``rows`` input channels by ``cols`` output
channels.

A layer's matrix is walked column tile by column tile; within one, every pass adds the products of
one pair of planes of one tap of one channel slice. Tiles that would hold nothing but structural
zeros are left out.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.operands import LayerOperands
from nupes.compiler.place.packing import pack_words
from nupes.model.operators import Conv
from nupes.model.planes import Planes

__all__ = [
    "CLEARING",
    "Matrix",
    "WeightTile",
    "binary_matrix",
    "conv_matrix",
    "identity_matrix",
    "patch_matrix",
]


@dataclass(frozen=True, slots=True)
class WeightTile:
    """One pass: input channels from ``slice_index * rows`` on, at one tap, for one pass of the
    weights' operands and one of the activations'.

    ``payload`` counts port words; ``masked`` says whether mask words are among them, ``joined``
    whether a row has two words of digits.
    """

    tap: int
    slice_index: int
    weight_plane: int
    activation_plane: int
    rows: int
    masked: bool
    joined: bool = False

    @property
    def payload(self) -> int:
        """Port words of the tile's weights."""
        return self.rows * (1 + self.masked + self.joined)

    @property
    def weights(self) -> tuple[int, int, int]:
        """What tells tiles of other weights of a column apart."""
        return self.tap, self.slice_index, self.weight_plane

    def likeness(self) -> tuple[int, ...]:
        """Return what sorts tiles so that those that differ in little follow one another."""
        planes = self.weight_plane, self.activation_plane
        return -self.rows, self.masked, *planes, self.tap, self.slice_index


MANY = 1 << 16
"""More pixels than any load of weights takes cycles."""

CLEARING = WeightTile(0, 0, 0, 0, 0, False)
"""The tile of a column that no operand reaches."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """The weights of a layer as the array sees them.

    ``digits`` (passes, taps, k, n) uint8; ``present`` (k, n) bool says where an operand exists at
    all (None: everywhere); ``tables`` (passes, digits) are the levels of the digits. ``zero``
    (passes,) is a digit of level 0 per pass, or -1 where none exists; ``joined`` says which passes
    have two stored digits side by side.

    With ``starts`` (n,), increasing, the ``digits`` of a column are those of its k rows from there
    on, and no other row has an operand. Tiles of ``whole`` matrices write every row of the array,
    those of others the rows up to the last operand.
    """

    digits: np.ndarray
    tables: np.ndarray
    present: np.ndarray | None
    zero: tuple[int, ...]
    starts: np.ndarray | None = None
    joined: tuple[bool, ...] = ()
    whole: bool = False

    @property
    def taps(self) -> int:
        """Taps of the kernel that are tiles of their own."""
        return self.digits.shape[1]

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.digits.shape[3]

    @property
    def dense(self) -> bool:
        """Whether every operand exists: all columns have the same tiles, of other weights."""
        return self.starts is None and self.present is None

    def column_tile(
        self, column: int, planes: int, config: ArrayConfig, pixels: int = MANY
    ) -> list[WeightTile]:
        """Return the passes of one column tile for an input of ``planes`` passes, in execution
        order: those that hold an operand.

        The first column tile takes the channels in the order in which they are written, the others
        find all there: their tiles form runs. But where so few ``pixels`` stream that the weights
        take longer, and would be loaded for every plane, those of equal weights follow one another.
        """
        columns = slice(column * config.cols, (column + 1) * config.cols)
        first, last, end = 0, self.digits.shape[2], self.digits.shape[2]
        if self.starts is not None:
            first, end = int(self.starts[columns][0]), int(self.starts[-1]) + last
            last += int(self.starts[columns][-1])
        tiles = []
        for index in range(first // config.rows, -(-last // config.rows)):
            rows = slice(index * config.rows, (index + 1) * config.rows)
            if not self.whole:
                rows = slice(rows.start, min(rows.stop, end))
            present = self.presence(rows, columns)
            masked = [False] * len(self.tables)
            joined = self.joined or masked
            if present is not None:
                if not present.any():
                    continue
                masked = [zero < 0 and not present.all() for zero in self.zero]
            tiles += [
                WeightTile(tap, index, i, j, rows.stop - rows.start, masked[i], joined[i])
                for tap in range(self.taps)
                for i in range(len(self.tables))
                for j in range(planes)
            ]
        if column == 0 or keeping_pays(tiles, planes, config, pixels):
            return tiles
        return sorted(tiles, key=WeightTile.likeness)

    def presence(self, rows: slice, columns: slice) -> np.ndarray | None:
        """Return whether each operand of some rows and columns exists; ``None`` if all do."""
        if self.starts is not None:
            offset = np.arange(rows.start, rows.stop)[:, None] - self.starts[columns]
            return (offset >= 0) & (offset < self.digits.shape[2])
        return None if self.present is None else self.present[rows, columns]

    def block(self, plane: int, tap: int, rows: slice, columns: slice) -> np.ndarray:
        """Return the digits of some rows and columns; any ones where there is no operand."""
        digits = self.digits[plane, tap, :, columns]
        if self.starts is None:
            return digits[rows]
        offset = np.arange(rows.start, rows.stop)[:, None] - self.starts[columns]
        return np.take_along_axis(digits, np.clip(offset, 0, len(digits) - 1), axis=0)

    def payload(self, tile: WeightTile, column: int, config: ArrayConfig) -> np.ndarray:
        """Return the port words of a tile, uint64 (payload, port words)."""
        rows = slice(tile.slice_index * config.rows, tile.slice_index * config.rows + tile.rows)
        columns = slice(column * config.cols, (column + 1) * config.cols)
        digits = self.block(tile.weight_plane, tile.tap, rows, columns)
        present = self.presence(rows, columns)
        if present is not None:
            digits = np.where(present, digits, max(self.zero[tile.weight_plane], 0)).astype(
                np.uint8
            )
        parts = [pack_words(digits & ((1 << config.code_bits) - 1), config)]
        if tile.joined:
            parts.append(pack_words(digits >> config.code_bits, config))
        width = parts[0].shape[1]
        if tile.masked and present is not None:
            bits = np.packbits(present, axis=1, bitorder="little")
            masks = np.zeros((tile.rows, width * 8), np.uint8)
            masks[:, : bits.shape[1]] = bits
            parts.insert(0, masks.view("<u8"))
        return np.stack(parts, axis=1).reshape(-1, width)


def keeping_pays(tiles: list[WeightTile], planes: int, config: ArrayConfig, pixels: int) -> bool:
    """Whether tiles of the same weights one after the other, which are loaded once, take fewer
    cycles than runs of tiles whose planes are the same."""
    words = max((tile.payload for tile in tiles), default=0)
    alone = config.instruction_words + 1
    kept = max(pixels, alone + words) + (planes - 1) * max(pixels, alone)
    return kept < planes * max(pixels, words)


def zeros_of(tables: np.ndarray) -> tuple[int, ...]:
    """Return a digit of level 0 for each table, or -1."""
    found = [np.flatnonzero(table == 0) for table in tables]
    return tuple(int(index[0]) if len(index) else -1 for index in found)


def conv_matrix(op: Conv, layer: LayerOperands, lead: int = 0) -> Matrix:
    """Return the matrix of a convolution; groups become block-diagonal, ``lead`` rows before them
    have no operands.
    """
    planes = cast(Planes, layer.digits)
    n, per_group, kh, kw = op.codes.shape
    codes = op.codes.transpose(2, 3, 1, 0).reshape(kh * kw, per_group, n)
    read = layer.weights.digits(planes).astype(np.uint8)  # at most 8 bits, as levels
    digits = np.moveaxis(read[codes], -1, 0)
    starts = None
    if op.groups > 1 or lead:
        starts = lead + np.arange(n) // (n // op.groups) * per_group
    tables = layer.weights.levels
    joined = layer.weights.joined
    return Matrix(digits, tables, None, zeros_of(tables), starts, joined)


def patch_matrix(op: Conv, layer: LayerOperands) -> Matrix:
    """Return the matrix of a convolution over packed patches: one tap, ``taps * channels`` rows."""
    matrix = conv_matrix(op, layer)
    count, taps, k, n = matrix.digits.shape
    return replace(matrix, digits=matrix.digits.reshape(count, 1, taps * k, n))


def identity_matrix(
    channels: int, outputs: int, offset: int, layer: LayerOperands, lead: int = 0
) -> Matrix:
    """Return the matrix that copies input channel ``c - offset`` to output channel ``c``; ``lead``
    rows before the ``channels`` have no operands.
    """
    digits = np.pad(np.eye(channels, outputs, k=offset, dtype=np.uint8), ((lead, 0), (0, 0)))
    return binary_matrix(digits, layer)


def binary_matrix(digits: np.ndarray, layer: LayerOperands) -> Matrix:
    """Return the matrix of weights 1 and 0 (k, n) that the cells' identity makes."""
    tables = layer.weights.levels
    copies = np.repeat(digits[None, None], len(tables), axis=0)
    return Matrix(copies, tables, digits.astype(bool), (0,) * len(tables))


def partial_sum_bound(matrix: Matrix, tables: np.ndarray) -> int:
    """Return the largest magnitude of any partial sum over all passes, in any order of summation.

    ``tables`` are the levels of the activation passes. Every product of a weight digit and an
    activation digit is taken at its extremes (0 where there is no operand); positive and negative
    ones are summed apart, per output channel.
    """
    ends = [(min(int(table.min()), 0), max(int(table.max()), 0)) for table in tables]
    low, high = map(sum, zip(*ends, strict=True))
    positive = np.zeros(matrix.channels, np.int64)
    negative = np.zeros(matrix.channels, np.int64)
    # Tap by tap: sums are of 64 bits.
    for plane, tap in np.ndindex(matrix.digits.shape[:2]):
        weights = matrix.tables[plane][matrix.digits[plane, tap]]
        if matrix.present is not None:
            weights = weights * matrix.present
        positive += np.maximum(weights, 0).sum(axis=0, dtype=np.int64)
        negative += np.minimum(weights, 0).sum(axis=0, dtype=np.int64)
    return int(
        max((positive * high + negative * low).max(), -(positive * low + negative * high).min())
    )
