"""Products: levels of one tensor stream through an identity, those of the other multiply them."""

from dataclasses import replace
from typing import cast

import numpy as np

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums, map_stream
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import binary_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork, Second
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.model.errors import UnsupportedError
from nupes.model.layer import Layer, Post
from nupes.model.operators import Select

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a product as work of the array: a pass for each digit of the first factor."""
    config, post = context.config, cast(Post, layer.post)
    if not config.products:
        raise UnsupportedError(
            f"layer {layer.name!r}: a product of two tensors needs an array with products=True"
        )
    if post.residual is not None:
        raise UnsupportedError(
            f"layer {layer.name!r}: a product and a skip tensor must be two layers: both are read "
            "through one port"
        )
    source, whole = context.source(layer.inputs[0]), context.aligned(layer, layer.inputs[1])
    height, width, channels = layer.output.shape
    window = Select.every(channels)
    walk = window_walk(layer, window, whole.shape, source.layout, whole=False)
    if source.layout.height < height:
        walk = replace(walk, stride_y=0, step_y=0)
    if source.layout.width < width:
        walk = replace(walk, stride_x=0, step_x=0)
    operands = layer_operands(layer, source.tensor, source.planes, config)
    # One channel goes to every column, several each to its own.
    ones = np.eye(channels) if source.channels == channels else np.ones((1, channels))
    matrix = binary_matrix(np.pad(ones.astype(np.uint8), ((source.lead, 0), (0, 0))), operands)
    second = Second(whole.layout, whole.planes)
    tiling = Tiling(matrix, operands, map_stream(window, source, walk), second)
    largest = int(np.abs(whole.tensor.codebook.levels.astype(np.int64)).max())
    check_sums(layer, tiling, largest, config)
    parts = all_columns(tiling, config)
    return (ArrayWork(Region(height, width), parts, context.finish(layer, post)),)
