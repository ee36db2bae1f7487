"""Operators that copy values to other places: nearest upsampling, pixel shuffles, flips, rolls,
paddings with values of the map. Each is a mosaic."""

from itertools import product

import numpy as np
import torch
from torch import fx
from torch.fx.node import map_arg

from nupes.model.operators import Mosaic, Piece
from nupes.quantizer.frontend.call import Call, is_map
from nupes.quantizer.frontend.graph import Node
from nupes.quantizer.frontend.handlers.lines import lines_of
from nupes.quantizer.frontend.registry import handles

__all__ = ["add_mosaic", "copy_values", "pixel_shuffle", "pixel_unshuffle"]


def add_mosaic(call: Call, source: Node, origins: list[np.ndarray], part: str = "") -> str:
    """Add a map whose rows, columns and channels are those of a map with these numbers."""
    shape = (len(origins[0]), len(origins[1]), len(origins[2]))
    pieces = []
    for lines in product(*(lines_of(numbers.tolist()) for numbers in origins)):
        count, to, to_step, at, at_step = zip(*lines, strict=True)
        pieces.append(Piece(0, count, to, to_step, at, at_step))
    operator = call.kind.lstrip("_")
    return call.add(Mosaic(shape, tuple(pieces)), (source.name,), shape, operator, part)


@handles(
    *("upsample_nearest2d", "_upsample_nearest_exact2d", "flip", "roll", "repeat_interleave"),
    ignores=("output_size", "scale_factors", "dims", "shifts", "repeats", "dim"),
)
def copy_values(call: Call, input: fx.Node) -> str:
    """Translate a call that copies rows, columns and channels: PyTorch itself says which, as it is
    called with a map of numbers."""
    source = call.source(input)
    height, width, channels = source.shape
    if not is_map(input) or not is_map(call.node):
        call.refuse(f"{call.kind} must be of a feature map")
    numbers = torch.arange(2 * channels * height * width, dtype=torch.float64)
    numbers = numbers.reshape(2, channels, height, width)
    args, kwargs = map_arg((call.node.args, call.node.kwargs), lambda node: numbers)
    assert callable(call.node.target)
    found = call.node.target(*args, **kwargs).to(torch.int64).numpy()
    c, y, x = (found[0, :, 0, 0], found[0, 0, :, 0], found[0, 0, 0, :])
    area = height * width
    origins = [y % area // width, x % width, c // area]
    expected = origins[2][:, None, None] * area + origins[0][:, None] * width + origins[1]
    images = np.arange(2).reshape(2, 1, 1, 1) * channels * area
    if found.shape != (2, *expected.shape) or (found != images + expected).any():
        call.refuse(f"{call.kind} must copy rows, columns and channels of each image alone")
    return add_mosaic(call, source, origins)


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
