"""Pixel shuffles: mosaics whose grids of pixels have channels of their own."""

from torch import fx

from nupes.model.operators import Mosaic, Piece
from nupes.quantizer.frontend.call import Call, is_map
from nupes.quantizer.frontend.graph import Node
from nupes.quantizer.frontend.registry import handles

__all__ = ["pixel_shuffle", "pixel_unshuffle"]


@handles("pixel_shuffle")
def pixel_shuffle(call: Call, input: fx.Node, upscale_factor: int) -> str:
    """Translate ``pixel_shuffle``: each grid of pixels has the channels of one phase."""
    source, factor = map_of(call, input), upscale_factor
    height, width, channels = source.shape
    shape = (height * factor, width * factor, channels // factor**2)
    pieces = tuple(
        Piece(
            0,
            (height, width, shape[2]),
            (y, x, 0),
            (factor, factor, 1),
            (0, 0, y * factor + x),
            (1, 1, factor**2),
        )
        for y in range(factor)
        for x in range(factor)
    )
    return call.add(Mosaic(shape, pieces), (source.name,), shape, "pixel_shuffle")


@handles("pixel_unshuffle")
def pixel_unshuffle(call: Call, input: fx.Node, downscale_factor: int) -> str:
    """Translate ``pixel_unshuffle``: each phase of pixels becomes channels."""
    source, factor = map_of(call, input), downscale_factor
    height, width, channels = source.shape
    shape = (height // factor, width // factor, channels * factor**2)
    pieces = tuple(
        Piece(
            0,
            (*shape[:2], channels),
            (0, 0, y * factor + x),
            (1, 1, factor**2),
            (y, x, 0),
            (factor, factor, 1),
        )
        for y in range(factor)
        for x in range(factor)
    )
    return call.add(Mosaic(shape, pieces), (source.name,), shape, "pixel_unshuffle")


def map_of(call: Call, input: fx.Node) -> Node:
    """Return the node of an operand that must be a feature map."""
    if not is_map(input):
        call.refuse(f"{call.kind} must be of a feature map")
    return call.source(input)
