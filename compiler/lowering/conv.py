"""Convolutions: a tap of a channel slice in each pass, or packed patches."""

from dataclasses import replace
from typing import cast

from nupes.compiler.lowering.chains import chain_tilings
from nupes.compiler.lowering.columns import (
    Tiling,
    check_sums,
    column_tiles,
    map_stream,
    patch_stream,
)
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import conv_matrix, patch_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region, blocks
from nupes.compiler.place.packing import zero_digits
from nupes.compiler.place.placement import check_levels
from nupes.model.layer import Layer, Post
from nupes.model.operators import Conv

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a convolution as work of the array."""
    op, config, post = cast(Conv, layer.op), context.config, cast(Post, layer.post)
    source = context.source(layer.inputs[0])
    height, width, _ = layer.output.shape
    check_levels(f"layer {layer.name!r}", op.codebook, "weight_level_bits", config)
    packing = context.placement.packing_of(layer.inputs[0].tensor)
    patches = None if packing is None else packing.patches
    planes = source.planes
    if patches is not None:
        zero = zero_digits(planes, source.tensor.codebook.levels)
        planes = planes if zero is None else replace(planes, tables=zero[0])
    operands = layer_operands(layer, source.tensor, planes, config)
    tilings = []
    if patches is not None:
        tiling = Tiling(patch_matrix(op, operands), operands, patch_stream(patches))
    else:
        walk = window_walk(layer, op, source.shape, source.layout, whole=False)
        matrix = conv_matrix(op, operands, source.lead)
        tiling = Tiling(matrix, operands, map_stream(op, source, walk))
        if not source.lead:
            tilings = chain_tilings(op, tiling, walk, height * width, config)
    check_sums(layer, tiling, 1, config)
    columns = column_tiles(tilings or [tiling], range(-(-len(op.codes) // config.cols)), config)
    work = ArrayWork(Region(height, width), columns, context.finish(layer, post))
    if patches is None or patches.block == config.acc_depth:
        return (work,)
    return tuple(replace(work, block=part) for part in blocks(patches.pixels, patches.block))
