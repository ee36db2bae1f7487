"""Sums of products: those of all pairs follow one another into the same accumulators."""

from typing import cast

from nupes.compiler.lowering.columns import check_bound, column_tiles
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.product import largest_level, multiplied, post_of
from nupes.compiler.place.layout import Region
from nupes.model.layer import Layer
from nupes.model.operators import Select, SumOfProducts

__all__ = ["lower"]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a sum of products as work of the array: for each pair a pass for each digit of the
    factor, whose channels a matrix of ones selects."""
    op, config, post = cast(SumOfProducts, layer.op), context.config, post_of(layer, context)
    height, width, channels = layer.output.shape
    tilings, bound = [], 0
    pairs = zip(layer.inputs[::2], layer.inputs[1::2], op.channels, strict=True)
    for factor, whole_port, numbers in pairs:
        source, whole = context.source(factor), context.aligned(layer, whole_port)
        ones = Select(numbers).matrix(source.channels)
        tiling = multiplied(layer, source, whole, ones, context)
        tilings.append(tiling)
        bound += tiling.largest * largest_level(whole)
    check_bound(layer, bound, config)
    columns = column_tiles(tilings, range(-(-channels // config.cols)), config)
    return (ArrayWork(Region(height, width), columns, context.finish(layer, post)),)
