"""Patching: which convolution of few channels reads an input of the network as patches, and how
many of them have their place in memory at a time.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, cast

from nupes.arch.chains import CHAIN
from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import PatchLayout
from nupes.compiler.place.packing import zero_digits
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.planes import Planes
from nupes.model.tensor import Port, Tensor

__all__ = ["Packing", "columns_of", "cycles_of", "packable", "packings", "passes_of"]


@dataclass(frozen=True, eq=False)
class Packing:
    """An input packed for its only reader, a convolution, from address 0 on."""

    source: Tensor
    reader: Layer
    patches: PatchLayout

    chased: ClassVar[bool] = True

    def words(self, config: ArrayConfig) -> int:
        """Return the words of memory that the input takes."""
        return self.patches.words

    @property
    def op(self) -> Conv:
        """The convolution."""
        return cast(Conv, self.reader.op)

    def in_blocks(self, block: int) -> "Packing":
        """Return the packing that holds one block of ``block`` pixels at a time."""
        return replace(self, patches=replace(self.patches, block=block, held=block))

    def pays(self, config: ArrayConfig) -> bool:
        """Whether blocks take no more time than the passes over a plain map, if the external memory
        keeps up.

        The first tile that reads a run waits until the port has brought weights and run; the first
        one of a block, for the last chase of the block before too.
        """
        pixels, columns = self.patches.pixels, columns_of(self.op, config)
        passes = passes_of(self.patches.planes, config)
        tiles = passes * slices_of(self.op, config)[0]
        load = config.instruction_words + 1
        tile = load + config.rows * (1 + config.joins_weights)
        wait = tiles * (tile + load + config.joins) + config.issue_to_write + tile + load
        packed, plain = cycles_of(self.op, self.patches.planes, config)
        blocks = -(-pixels // self.patches.block)
        return packed * pixels + blocks * wait * columns <= plain * pixels


def packings(
    network: IntegerNetwork, planes: dict[str, Planes], config: ArrayConfig
) -> tuple[list[Packing], list[Packing]]:
    """Return the ways to pack one of a network's inputs, each list with the fastest first: those
    that are faster than a plain map, as a whole or one block at a time, and blocks of so few pixels
    that they are not.
    """
    whole = [
        Packing(item.tensor, reader, patch_layout(item.tensor, reader, planes, config))
        for item in network.inputs
        for reader in patch_readers(network, item.tensor, planes, config)
    ]
    sizes = [config.acc_depth >> halvings for halvings in range(config.acc_depth.bit_length())]
    parts = [
        packing.in_blocks(size)
        for packing in whole
        for size in sizes
        if size < packing.patches.pixels
    ]
    fast = [packing for packing in parts if packing.pays(config)]
    return [*whole, *fast], [packing for packing in parts if packing not in fast]


def patch_readers(
    network: IntegerNetwork, source: Tensor, planes: dict[str, Planes], config: ArrayConfig
) -> list[Layer]:
    """Return the convolution whose input, one of the network's, the host packs as patches; none if
    it stays a map: packing pays when it needs fewer cycles."""
    found = packable(network, source, planes, config)
    pairs = [cycles_of(cast(Conv, item.op), planes[source.name].count, config) for item in found]
    return [item for item, (packed, plain) in zip(found, pairs, strict=True) if packed < plain]


def packable(
    network: IntegerNetwork, source: Tensor, planes: dict[str, Planes], config: ArrayConfig
) -> list[Layer]:
    """Return the convolution whose input, one of the network's, the host may pack.

    It must be a single reader with one group, and there must be a zero for padding taps. What is
    packed is no map, so nothing may add the input either, that reader included.
    """
    readers = [
        layer for layer in network.layers for port in layer.reads if port.tensor == source.name
    ]
    if len(readers) != 1 or readers[0].inputs != (Port(source.name),):
        return []
    op = readers[0].op
    if type(op) is not Conv or op.groups != 1:
        return []
    if any(op.padding) and zero_digits(planes[source.name], source.codebook.levels) is None:
        return []
    return readers


def slices_of(op: Conv, config: ArrayConfig) -> tuple[int, int]:
    """Return how many times ``rows`` operands a pixel of a convolution has, packed and as a map, at
    least: one channel that makes one is a depthwise layer, whose taps may be in chains."""
    outputs, channels, *kernel = op.codes.shape
    taps = prod(kernel)
    chained = outputs == channels == 1 and config.chains
    plain = min(taps // side * -(-side // CHAIN) for side in kernel) if chained else taps
    return -(-taps * channels // config.rows), plain * -(-channels // config.rows)


def passes_of(planes: int, config: ArrayConfig) -> int:
    """Return how often an input of so many planes streams past a weight."""
    return -(-planes // 2) if config.joins else planes


def columns_of(op: Conv, config: ArrayConfig) -> int:
    """Return the column tiles of a convolution."""
    return -(-len(op.codes) // config.cols)


def cycles_of(op: Conv, planes: int, config: ArrayConfig) -> tuple[int, int]:
    """Return the cycles of a pixel of a convolution, packed and as a map: those of its words, or in
    the first column tile over patches, of their way through the port if that takes longer."""
    packed, plain = (count * passes_of(planes, config) for count in slices_of(op, config))
    port, columns = planes * -(-op.codes[0].size // config.lanes), columns_of(op, config)
    return max(port, packed) + (columns - 1) * packed, plain * columns


def patch_layout(
    source: Tensor, reader: Layer, planes: dict[str, Planes], config: ArrayConfig
) -> PatchLayout:
    """Return the layout of an input that is packed as a whole for a convolution."""
    op = cast(Conv, reader.op)
    height, width, _ = op.shape(source.shape)
    words = -(-op.codes[0].size // config.lanes)
    count, pixels = planes[source.name].count, height * width
    return PatchLayout(0, pixels, words, count, config.acc_depth, held=pixels, joined=config.joins)
