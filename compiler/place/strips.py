"""Strips: an input whose words hold the operands of one row of a convolution's kernel.

The host makes a map of it, as wide as the result, over which the convolution has one column of
taps. It has fewer words than patches, which hold whole windows, and more passes: so it pays where
the port is what a first layer waits for. The map comes block by block of the result's pixels, ahead
of the tiles that read it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import TensorLayout
from nupes.compiler.place.packing import InputLayout
from nupes.compiler.place.patching import columns_of, cycles_of, passes_of
from nupes.model.layer import Layer
from nupes.model.operators import Conv
from nupes.model.planes import Planes
from nupes.model.tensor import Tensor

__all__ = ["Strips", "strip_input", "strips_of"]


@dataclass(frozen=True, eq=False)
class Strips:
    """An input packed for its only reader, a convolution, whose result is computed in blocks of
    ``block`` pixels."""

    source: Tensor
    reader: Layer
    planes: int
    block: int

    chased: ClassVar[bool] = False

    @property
    def whole(self) -> Conv:
        """The convolution of the network."""
        return cast(Conv, self.reader.op)

    @property
    def op(self) -> Conv:
        """The convolution over the map of strips: a column of taps."""
        op = self.whole
        n, channels, kh, kw = op.codes.shape
        codes = op.codes.transpose(0, 3, 1, 2).reshape(n, kw * channels, kh, 1)
        return replace(
            op,
            codes=codes,
            stride=(op.stride[0], 1),
            padding=(*op.padding[:2], 0, 0),
            dilation=(op.dilation[0], 1),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The (h, w, c) of the map."""
        channels, _, kw = self.whole.codes.shape[1:]
        return self.source.shape[0], self.whole.shape(self.source.shape)[1], channels * kw

    def words(self, config: ArrayConfig) -> int:
        """Return the words of the map."""
        return self.layout(0, config).words

    def layout(self, base: int, config: ArrayConfig) -> TensorLayout:
        """Return the layout of the map from ``base`` on."""
        height, width, channels = self.shape
        return TensorLayout.whole(base, height, width, -(-channels // config.lanes), self.planes)

    def cycles(self, config: ArrayConfig) -> int:
        """Return about how many cycles the layer takes: until the first block is there, and those
        of the array, or of the port."""
        (height, width, channels), op = self.shape, self.op
        oh, kh = op.shape(self.shape)[0], op.codes.shape[2]
        passes = passes_of(self.planes, config) * kh * -(-channels // config.rows)
        tiles, blocks = passes * columns_of(op, config), -(-oh * width // self.block)
        row, load = self.planes * -(-channels // config.lanes) * width, config.instruction_words + 1
        weights = tiles * (load + config.rows * (1 + config.joins_weights))
        lines = -(-self.block // width) * op.stride[0] + kh
        port = row * height + blocks * (weights + 2 * self.planes * load)
        return row * min(lines, height) + max(tiles * oh * width, port)


def strips_of(reader: Layer, source: Tensor, planes: int, config: ArrayConfig) -> list[Strips]:
    """Return the strips of an input that may be packed, if they take fewer cycles than patches and
    a map: never where every plane is a pass, as then the port is not what the layer waits for."""
    if not config.joins or planes < 2:
        return []
    sizes = [config.acc_depth >> halvings for halvings in range(4) if config.acc_depth >> halvings]
    best = min(
        (Strips(source, reader, planes, size) for size in sizes),
        key=lambda strips: strips.cycles(config),
    )
    height, width, _ = best.whole.shape(source.shape)
    others = min(cycles_of(best.whole, planes, config)) * height * width
    return [best] if best.cycles(config) < others else []


def strip_input(
    strips: Strips, layout: TensorLayout, planes: Planes, zero: np.ndarray, config: ArrayConfig
) -> InputLayout:
    """Return the host's packing of strips: ``zero`` are the digits of a tap outside the input."""
    op, (height, width, channels) = strips.whole, strips.source.shape
    kw, (_, columns, operands) = op.codes.shape[3], strips.shape
    size = height * width * channels
    x = np.arange(columns)[:, None] * op.stride[1] + np.arange(kw) * op.dilation[1]
    x -= op.padding[2]
    pixels = np.arange(height)[:, None, None] * width + x
    index = np.full(
        (planes.count, height, columns, layout.groups * config.lanes), planes.count * size, np.int64
    )
    inside = np.broadcast_to(((x >= 0) & (x < width))[None, ..., None], (*pixels.shape, channels))
    for plane in range(planes.count):
        operand = plane * size + pixels[..., None] * channels + np.arange(channels)
        operand = np.where(inside, operand, planes.count * size + plane)
        index[plane, ..., :operands] = operand.reshape(height, columns, operands)
    words = index.reshape(planes.count, height, columns, layout.groups, config.lanes)
    source = words.transpose(0, 3, 1, 2, 4).reshape(-1, config.lanes)
    return InputLayout(layout.base, source, planes.digits, zero)
