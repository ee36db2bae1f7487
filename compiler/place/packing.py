"""How the host packs the network input into words of the activation memory."""

from dataclasses import dataclass

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import PatchLayout, TensorLayout
from nupes.model.operators import Window
from nupes.model.planes import Planes, split_planes
from nupes.model.tensor import Tensor

__all__ = ["InputLayout", "pack_words", "patch_input", "plain_input", "zero_digits"]


@dataclass(frozen=True, eq=False)
class InputLayout:
    """How the host fills the words of a network input, from the address ``base`` on.

    ``source`` (words, lanes) int64 indexes the flattened digits (plane, h, w, c) followed by one
    entry per plane: the digits of a structural zero (and, for lanes that no weight reads, 0). They
    come as they lie in memory, or where they share addresses ``in_order``, the program's. Of a
    batch this is the first image; that of the next one lies ``image_step`` words further, 0 if all
    have the same place.
    """

    base: int
    source: np.ndarray
    digits: np.ndarray
    zero: np.ndarray
    in_order: bool = False
    image_step: int = 0

    def words(self, codes: np.ndarray, config: ArrayConfig) -> np.ndarray:
        """Return the port words, uint64 (words, port_bits / 64), of input codes (h, w, c) uint8."""
        planes = np.moveaxis(self.digits[codes], -1, 0).reshape(-1)
        return pack_words(np.concatenate([planes, self.zero])[self.source], config)


def pack_words(digits: np.ndarray, config: ArrayConfig) -> np.ndarray:
    """Return digits (n, m) uint8 of ``code_bits`` each, side by side, as uint64 (n, ceil(port_bits
    / 64)).
    """
    bits = np.unpackbits(digits[..., None], axis=2, count=config.code_bits, bitorder="little")
    packed = np.packbits(bits.reshape(len(digits), -1), axis=1, bitorder="little")
    out = np.zeros((len(digits), 8 * -(-config.port_bits // 64)), np.uint8)
    out[:, : packed.shape[1]] = packed
    return out.view("<u8")


def zero_digits(planes: Planes, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return tables and digits (one per plane) whose levels add up to exactly 0, or None if the
    planes have none.

    A single plane with an unused code gets a zero level of its own.
    """
    if planes.count > 1:
        if not levels[0] <= 0 <= levels[-1]:
            return None
        digits = (-int(levels[0]) >> (planes.code_bits * np.arange(planes.count))) % (
            1 << planes.code_bits
        )
        return planes.tables, digits.astype(np.uint8)
    found = np.flatnonzero(planes.tables[0] == 0)
    if len(found):
        return planes.tables, np.array([found[0]], np.uint8)
    if len(levels) < 1 << planes.code_bits:
        tables = planes.tables.copy()
        tables[0, len(levels)] = 0
        return tables, np.array([len(levels)], np.uint8)
    return None


def plain_input(tensor: Tensor, layout: TensorLayout, config: ArrayConfig) -> InputLayout:
    """Return the host's packing of an input that lies in memory like any tensor."""
    planes = split_planes(tensor.codebook, config.code_bits)
    height, width, channels = tensor.shape
    padded = layout.groups * config.lanes
    index = np.arange(planes.count * height * width * channels).reshape(
        planes.count, height, width, channels
    )
    pad = np.full((planes.count, height, width, padded - channels), index.size, np.int64)
    lanes = np.concatenate([index, pad], axis=3).reshape(
        planes.count, height, width, layout.groups, config.lanes
    )
    words = lanes.transpose(0, 3, 1, 2, 4).reshape(planes.count, -1, config.lanes)
    zero = np.zeros(planes.count, np.uint8)
    if layout.images > 1:
        source = words.reshape(-1, config.lanes)
        step = layout.image_step
        return InputLayout(layout.base, source, planes.digits, zero, image_step=step)
    gap = ((0, 0), (0, layout.plane_step - layout.plane_words), (0, 0))
    source = np.pad(words, gap, constant_values=index.size).reshape(-1, config.lanes)
    return InputLayout(layout.base, source[: layout.words], planes.digits, zero)


def patch_input(
    tensor: Tensor, op: Window, layout: PatchLayout, zero: np.ndarray, config: ArrayConfig
) -> InputLayout:
    """Return the host's packing of the patches that an operator's windows read."""
    planes = split_planes(tensor.codebook, config.code_bits)
    height, width, channels = tensor.shape
    oh, ow, _ = op.shape(tensor.shape)
    top, _, left, _ = op.padding
    kh, kw = op.kernel
    y = np.arange(oh)[:, None] * op.stride[0] + np.arange(kh) * op.dilation[0] - top
    x = np.arange(ow)[:, None] * op.stride[1] + np.arange(kw) * op.dilation[1] - left
    inside_y, inside_x = (y >= 0) & (y < height), (x >= 0) & (x < width)
    inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
    pixel = y[:, None, :, None] * width + x[None, :, None, :]
    taps = np.where(inside, pixel, -1).reshape(oh * ow, kh * kw)
    size, operands = height * width * channels, layout.words_per_plane * config.lanes
    unread = planes.count * size
    index = np.full((planes.count, oh * ow, operands), unread, np.int64)
    used = kh * kw * channels
    for plane in range(planes.count):
        operand = plane * size + taps[:, :, None] * channels + np.arange(channels)
        operand[taps < 0] = unread + plane
        index[plane, :, :used] = operand.reshape(oh * ow, used)
    runs = []
    for first in range(0, oh * ow, layout.block):
        block = index[:, first : first + layout.block]
        words = block.reshape(planes.count, block.shape[1], layout.words_per_plane, config.lanes)
        size = block.shape[1]
        starts = [layout.place(plane, size) for plane in range(planes.count)]
        run = np.full(
            (layout.words_per_plane, layout.place(planes.count, size), config.lanes), unread
        )
        for plane, start in enumerate(starts):
            run[:, start : start + size] = words[plane].swapaxes(0, 1)
        runs.append(run.reshape(-1, config.lanes))
    return InputLayout(layout.base, np.concatenate(runs), planes.digits, zero, in_order=True)
