"""Products: levels of one tensor stream through an identity, those of the other multiply them."""

from dataclasses import replace

import numpy as np

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums, map_stream
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.matrix import binary_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork, Second
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer, Post
from nupes.model.operators import Select

__all__ = ["largest_level", "lower", "multiplied", "post_of"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a product as work of the array: a pass for each digit of the first factor."""
    post = post_of(layer, context)
    source, whole = context.source(layer.inputs[0]), context.aligned(layer, layer.inputs[1])
    height, width, channels = layer.output.shape
    # One channel goes to every column, several each to its own.
    ones = np.eye(channels) if source.channels == channels else np.ones((1, channels))
    tiling = multiplied(layer, source, whole, ones.astype(np.uint8), context)
    check_sums(layer, tiling, largest_level(whole), context.config)
    parts = all_columns(tiling, context.config)
    return (ArrayWork(Region(height, width), parts, context.finish(layer, post)),)


def post_of(layer: Layer, context: Context) -> Post:
    """Return what follows the accumulator of a layer of products; refuse, by name, what the array
    cannot do."""
    assert layer.post is not None
    if not context.config.products:
        raise UnsupportedError(
            f"layer {layer.name!r}: a product of two tensors needs an array with products=True"
        )
    if layer.post.residual is not None:
        raise UnsupportedError(
            f"layer {layer.name!r}: a product and a skip tensor must be two layers: both are read "
            "through one port"
        )
    return layer.post


def multiplied(
    layer: Layer, source: Source, whole: Source, ones: np.ndarray, context: Context
) -> Tiling:
    """Return the passes in which a factor streams through a matrix of ``ones`` (c, n) uint8, times
    a whole."""
    height, width, channels = layer.output.shape
    window = Select.every(channels)
    walk = window_walk(layer, window, whole.shape, source.layout, whole=False)
    if source.layout.height < height:
        walk = replace(walk, stride_y=0, step_y=0)
    if source.layout.width < width:
        walk = replace(walk, stride_x=0, step_x=0)
    operands = layer_operands(layer, source.tensor, source.planes, context.config)
    matrix = binary_matrix(np.pad(ones, ((source.lead, 0), (0, 0))), operands)
    second = Second(whole.layout, whole.planes)
    return Tiling(matrix, operands, map_stream(window, source, walk), second)


def largest_level(source: Source) -> int:
    """Return the largest magnitude of a level."""
    return int(np.abs(source.tensor.codebook.levels.astype(np.int64)).max())
