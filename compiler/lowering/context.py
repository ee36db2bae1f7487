"""What a lowering may ask: where tensors lie, and how their codes are stored."""

from dataclasses import dataclass, replace

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Scaled
from nupes.compiler.lowering.passes import Finish, Second, Target
from nupes.compiler.place.layout import TensorLayout
from nupes.compiler.place.placement import Placement
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Encoder, Layer, Post, Requantize
from nupes.model.network import IntegerNetwork
from nupes.model.planes import Planes
from nupes.model.tensor import Port, Shape, Tensor, Wide

__all__ = ["Context", "Source"]


@dataclass(frozen=True, eq=False)
class Source:
    """What a port reads: the words of ``layout``, whose first ``lead`` lanes belong to others."""

    tensor: Tensor
    layout: TensorLayout
    planes: Planes
    lead: int
    channels: int

    @property
    def shape(self) -> Shape:
        """The (h, w, c) of what is read."""
        return self.layout.height, self.layout.width, self.channels

    @property
    def wide(self) -> bool:
        """Whether 16-bit results are read."""
        return isinstance(self.tensor.format, Wide)

    def second(self, mult: int, shift: int) -> Second:
        """Return the tensor at the residual port."""
        return Second(self.layout, self.planes, mult, shift, self.wide)


@dataclass(frozen=True, eq=False)
class Context:
    """A network placed in the memory of an array; of a batch, so many ``images`` share the
    tiles. What runs ``in_bands`` needs a few rows of its input at a time."""

    network: IntegerNetwork
    config: ArrayConfig
    placement: Placement
    images: int = 1
    in_bands: bool = False

    def at(self, layer: int) -> "Context":
        """Return what the lowering of a layer may ask."""
        if layer not in self.placement.spilling.bands:
            return self
        return replace(self, placement=self.placement.at(layer), in_bands=True)

    def source(self, port: Port) -> Source:
        """Return what a port reads."""
        tensor, lanes = self.network.tensors[port.tensor], self.config.lanes
        rows, _, channels = port.shape(tensor.shape)
        group, lead = divmod(port.first, lanes)
        layout = self.placement.layouts[port.tensor].part(group, -(-(lead + channels) // lanes))
        if rows < layout.height:
            layout = layout.lines(port.first_row, rows)
        return Source(tensor, layout, self.placement.planes[port.tensor], lead, channels)

    def aligned(self, layer: Layer, port: Port) -> Source:
        """Return what a port reads, or refuse one that begins within a word."""
        source = self.source(port)
        if source.lead:
            raise UnsupportedError(
                f"layer {layer.name!r}: channels read of tensor {port.tensor!r} must begin at a "
                f"multiple of {self.config.lanes} here, not at {port.first}"
            )
        return source

    def finish(self, layer: Layer, post: Post) -> Finish:
        """Return what follows a layer's accumulators."""
        target = residual = None
        if layer.output.name in self.placement.layouts:
            target = self.target(layer, layer.encoder)
        if post.residual is not None:
            skip = self.aligned(layer, post.residual.port)
            residual = skip.second(post.residual.mult, post.residual.shift)
        return Finish(post.requantize, target, residual)

    def finish_token(
        self, layer: Layer, post: Post, source: Source, mult: int, scaled: Scaled
    ) -> Finish:
        """Return what follows the token stage where the numbers of ``source``, times ``mult``, take
        the place of sums."""
        if post.residual is not None:
            raise UnsupportedError(
                f"layer {layer.name!r}: a {layer.op.kind} and a skip tensor must be two layers: "
                "both are read through one port"
            )
        term = source.second(2 * mult, 1)
        return replace(self.finish(layer, post), residual=term, scaled=scaled)

    def finish_copies(self, layer: Layer) -> Finish:
        """Return what follows the accumulators of an operator that copies codes: each holds one
        level, and ``y = 2 * level >> 1`` becomes its code."""
        levels = layer.output.codebook.levels
        encoder = Encoder(levels[1:], np.arange(len(levels), dtype=np.uint8))
        one = np.ones(layer.output.shape[2], np.int32)
        requantize = Requantize(2 * one, 0 * one.astype(np.int64), one)
        return Finish(requantize, self.target(layer, encoder))

    def target(self, layer: Layer, encoder: Encoder | None) -> Target:
        """Return where a layer's codes are stored, or its 16-bit results."""
        name, place = layer.output.name, self.placement
        return Target(place.layouts[name], place.planes[name], encoder)
