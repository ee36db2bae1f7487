"""Random networks of depthwise convolutions, and arrays that have no chains for them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import strategies as st

from nupes.arch.config import ArrayConfig
from nupes.model.layer import Encoder
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv, Operator
from nupes.model.tensor import Tensor
from tests.assemble import assemble, coded, layer_of, wide
from tests.codebooks import held_codebooks
from tests.networks import Builder, networks, unit

__all__ = ["Unchained", "depthwise_networks", "narrow_maps"]


@dataclass(frozen=True)
class Unchained(ArrayConfig):
    """An array without chains of taps."""

    @property
    def chains(self) -> bool:
        """Whether columns have chains of taps."""
        return False


class Depthwise(Builder):
    """A network whose layers are depthwise convolutions."""

    most_channels: ClassVar[int] = 14

    def operator(self, last: bool) -> tuple[Operator, list[Tensor]]:
        """Draw an operator and what it reads."""
        source = self.recent()
        return self.conv(source, ["depthwise"]), [source]


def depthwise_networks(config: ArrayConfig) -> st.SearchStrategy[IntegerNetwork]:
    """Draw a network of depthwise convolutions whose codebooks an array's cells hold."""
    books = held_codebooks(config, True), held_codebooks(config, False)
    return networks(3, *books, make=Depthwise)


@st.composite
def narrow_maps(draw: st.DrawFn, config: ArrayConfig) -> IntegerNetwork:
    """Draw two layers: the first one's high, narrow map takes several tiles one after the other,
    and the chains of the second, depthwise one read all of it in one block."""
    width, kernel, stride = (
        draw(st.integers(3, 4)),
        draw(st.integers(2, 3)),
        draw(st.integers(1, 2)),
    )
    rows = draw(st.integers(1, config.acc_depth // (width - 1)))
    height, channels = (rows - 1) * stride + kernel, draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    book, weights = draw(held_codebooks(config, False)), draw(held_codebooks(config, True))

    def conv(kernel: tuple[int, int], stride: tuple[int, int], groups: int) -> Conv:
        shape = channels, channels // groups, *kernel
        codes = rng.integers(0, len(weights), shape).astype(np.uint8)
        return Conv(codes, weights, np.ones(channels), stride, groups=groups)

    first, second = conv((1, 1), (1, 1), 1), conv((kernel, 2), (stride, 1), channels)
    map_shape, shape = (height, width, channels), (rows, width - 1, channels)
    spread = np.sort(rng.integers(-300, 300, len(book) - 1)).astype(np.int16)
    encoder = Encoder(spread, np.arange(len(book), dtype=np.uint8))
    tail = unit(channels)
    layers = [
        layer_of("first", first, "input", coded("map", map_shape, book), tail, None, encoder),
        layer_of("second", second, "map", wide("y", shape), tail),
    ]
    return assemble(coded("input", map_shape, book), layers, (channels, *shape[:2]))
