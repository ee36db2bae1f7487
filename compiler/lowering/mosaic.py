"""Mosaics: each grid of the result's pixels is written by identity tiles of its pieces."""

from collections.abc import Iterator
from typing import cast

import numpy as np

from nupes.compiler.lowering.columns import Place, Tiling, check_sums, column_tiles
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.matrix import binary_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork, MapStream
from nupes.compiler.lowering.walks import grid_walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.ranges import Part
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Mosaic, Piece
from nupes.model.tensor import Port

__all__ = ["lower"]


def parts(layer: Layer, network: IntegerNetwork) -> Iterator[Part]:
    """Yield that what is read may lie where the result has it, if all its pixels stay in raster
    order: a map that becomes a sequence."""
    op, port = cast(Mosaic, layer.op), layer.inputs[0]
    shape = network.tensors[port.tensor].shape
    if layer.inputs != (Port(port.tensor),) or op.size[2] != shape[2]:
        return
    places = np.arange(np.prod(shape, dtype=int)).reshape(1, *shape)
    if np.array_equal(op.copy(places).ravel(), places.ravel()):
        yield Part(port.tensor, layer.output.name, 0)


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a mosaic as work of the array: one for each grid."""
    op, config = cast(Mosaic, layer.op), context.config
    found = context.placement.ranges.get(layer.inputs[0].tensor)
    if found is not None and found.whole == layer.output.name and len(layer.inputs) == 1:
        return ()
    columns = range(-(-layer.output.shape[2] // config.cols))
    works = []
    for grid, pieces in op.grids.items():
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
