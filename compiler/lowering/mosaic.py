"""Mosaics: each grid of the result's pixels is written by identity tiles of its pieces."""

from collections.abc import Iterable
from typing import cast

import numpy as np

from nupes.compiler.lowering.columns import Place, Tiling, check_sums, column_tiles
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.matrix import binary_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork, MapStream
from nupes.compiler.lowering.walks import grid_walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.ranges import Part, Range
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Mosaic, Piece
from nupes.model.tensor import Port

__all__ = ["lower"]


def parts(layer: Layer, network: IntegerNetwork) -> Iterable[Part]:
    """Return that what is read may lie where the result has it, if all its pixels follow one
    another there in raster order: a map that becomes a sequence, blocks of rows."""
    return parts_by_input(layer, network).values()


def parts_by_input(layer: Layer, network: IntegerNetwork) -> dict[int, Part]:
    """Return which inputs, by number, may lie where the result has them: there, and nowhere else in
    it."""
    op, shapes = cast(Mosaic, layer.op), network.input_shapes(layer)
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    numbers = [
        np.arange(end - np.prod(shape, dtype=int), end).reshape(1, *shape)
        for end, shape in zip(ends, shapes, strict=True)
    ]
    made = op.copy(*numbers).reshape(-1, op.size[2])
    found = {}
    for index, (port, values) in enumerate(zip(layer.inputs, numbers, strict=True)):
        first = int((made[:, 0] == values.flat[0]).argmax())
        wanted = values.reshape(-1, values.shape[3])
        whole = port == Port(port.tensor)
        once = np.count_nonzero((made >= values.min()) & (made <= values.max())) == values.size
        if whole and once and np.array_equal(made[first : first + len(wanted)], wanted):
            found[index] = Part(port.tensor, layer.output.name, 0, first)
    return found


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a mosaic as work of the array: one for each grid that does not lie there already."""
    op, config = cast(Mosaic, layer.op), context.config
    ranges = context.placement.ranges
    there = {
        index
        for index, part in parts_by_input(layer, context.network).items()
        if ranges.get(part.tensor) == Range(part.whole, 0, part.pixel)
    }
    columns = range(-(-layer.output.shape[2] // config.cols))
    works = []
    for grid, pieces in op.grids.items():
        if there.issuperset(piece.source for piece in pieces):
            continue
        tilings = [tiling_of(layer, piece, context) for piece in pieces]
        for tiling in tilings:
            check_sums(layer, tiling, 1, config)
        copies = column_tiles(tilings, columns, config)
        works.append(ArrayWork(Region(*grid), copies, context.finish_copies(layer)))
    return tuple(works)


def tiling_of(layer: Layer, piece: Piece, context: Context) -> Tiling:
    """Return the matrix of a piece: 1 from each of its channels to the result's."""
    source = context.source(layer.inputs[piece.source])
    operands = layer_operands(layer, source.tensor, source.planes, context.config)
    ones = np.zeros((source.lead + source.channels, layer.output.shape[2]), np.uint8)
    ones[source.lead + piece.origins(2), piece.places(2)] = 1
    return Tiling(binary_matrix(ones, operands), operands, place_of(layer, piece, source))


def place_of(layer: Layer, piece: Piece, source: Source) -> Place:
    """Return where the words of a piece's pixels stream from."""
    walk = grid_walk(layer, piece.count[1], piece.at_step[:2], source.layout)
    y, x, _ = piece.at
    return lambda plane, word, tap: MapStream(walk, source.layout, plane, word, y, x)
