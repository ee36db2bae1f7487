"""Convolutions: a tap of a channel slice in each pass, or packed patches."""

from dataclasses import replace
from operator import itemgetter
from typing import cast

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.chains import Grid, best_chains, chain_tilings
from nupes.compiler.lowering.columns import (
    Tiling,
    check_sums,
    column_tiles,
    map_stream,
    patch_stream,
)
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.matrix import conv_matrix, patch_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import ColumnWalk, Walk, window_walk
from nupes.compiler.place.layout import Region, blocks
from nupes.compiler.place.packing import zero_digits
from nupes.compiler.place.patching import Packing
from nupes.compiler.place.placement import check_levels
from nupes.compiler.place.strips import Strips
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
    patches = packing.patches if isinstance(packing, Packing) else None
    planes = source.planes
    if isinstance(packing, Strips):
        op, layout = packing.op, context.placement.layouts[source.tensor.name]
        source = replace(source, layout=layout, channels=packing.shape[2])
    if packing is not None:
        zero = zero_digits(planes, source.tensor.codebook.levels)
        planes = planes if zero is None else replace(planes, tables=zero[0])
    operands = layer_operands(layer, source.tensor, planes, config)
    region = Region(height, width)
    if patches is not None:
        tilings = [Tiling(patch_matrix(op, operands), operands, patch_stream(patches))]
        check_sums(layer, tilings[0], 1, config)
    else:
        walk = window_walk(layer, op, source.shape, source.layout, whole=False)
        matrix = conv_matrix(op, operands, source.lead)
        pixels = height * width * context.images
        tiling = Tiling(matrix, operands, map_stream(op, source, walk), pixels=pixels)
        check_sums(layer, tiling, 1, config)
        tilings = [tiling]
        if config.chains and packing is None and depthwise(op, source):
            turns = not (config.attention or context.in_bands) and context.images == 1
            tilings, region = chained(op, source, tiling, walk, region, turns, config)
    columns = column_tiles(tilings, range(-(-len(op.codes) // config.cols)), config)
    work = ArrayWork(region, columns, context.finish(layer, post))
    block = config.acc_depth
    if packing is not None:
        block = packing.block if isinstance(packing, Strips) else packing.patches.block
    if block == config.acc_depth:
        return (work,)
    return tuple(replace(work, block=part) for part in blocks(height * width, block))


def depthwise(op: Conv, source: Source) -> bool:
    """Whether each channel is convolved alone, and lies in the lane of its result."""
    return op.groups == len(op.codes) == source.channels and source.lead == 0


def chained(
    op: Conv,
    source: Source,
    tiling: Tiling,
    walk: Walk,
    region: Region,
    turns: bool,
    config: ArrayConfig,
) -> tuple[list[Tiling], Region]:
    """Return the tilings of a depthwise convolution, and the order of its pixels, with which it
    takes the fewest cycles: its taps alone, in chains along a row, or, if it ``turns``, down a
    column.

    Columns are for maps of one block alone: others would wait until all rows of their input are
    written. Statistics are gathered in raster order, and images of a batch follow one another in
    it.
    """
    ways = [(region, walk)]
    if region.pixels <= config.acc_depth and turns:
        ways.append((replace(region, by_columns=True), ColumnWalk.of(walk, region.rows)))
    found = []
    for order, way in ways:
        grid = Grid.of(op, way, region.pixels, order.by_columns)
        chains, cycles = best_chains(grid, tiling.matrix, config)
        found.append((cycles, chains, order, way))
    _, chains, order, way = min(found, key=itemgetter(0))
    tiling = replace(tiling, place=map_stream(op, source, way))
    return chain_tilings(tiling, chains, config), order
