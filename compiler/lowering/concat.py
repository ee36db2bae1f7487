"""Concatenations: parts that lie in the result already, and copies of the others.

A part that begins with a word of the result is placed there before it is written. The others are
copied by identity tiles; a column tile that holds several parts adds up a pass of each.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from nupes.compiler.lowering.columns import Tiling, check_sums, column_tiles, map_stream
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import identity_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.ranges import Part, root_of
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Concat, Select
from nupes.model.tensor import Port, Tensor

__all__ = ["lower", "parts"]


def parts(layer: Layer, network: IntegerNetwork) -> Iterator[Part]:
    """Yield the tensors that may be written where the result has them.

    Besides the parts these are earlier concatenations of some of them: lists that grow, as in a
    DenseNet, then lie in one tensor.
    """
    output, first = layer.output.name, 0
    before = network.layers[: network.layers.index(layer)]
    joins = [other for other in before if isinstance(other.op, Concat)]
    for index, port in enumerate(layer.inputs):
        if holds_all(layer.inputs[index:], network.tensors[port.tensor]):
            yield Part(port.tensor, output, first)
        for join in reversed(joins):
            if layer.inputs[index : index + len(join.inputs)] == join.inputs:
                yield Part(join.output.name, output, first)
        first += network.input_shapes(layer)[index][2]


def holds_all(ports: Sequence[Port], tensor: Tensor) -> bool:
    """Whether ports begin with one of a whole tensor, or with several of its parts in their
    order."""
    first = 0
    for port in ports:
        whole = port.shape(tensor.shape)[0] == tensor.shape[0]
        if port.tensor != tensor.name or port.first != first or not whole:
            break
        first += port.shape(tensor.shape)[2]
    return first == tensor.shape[2]


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return the copies of the parts that do not lie in the result already."""
    config, output, ranges = context.config, layer.output, context.placement.ranges
    height, width, channels = output.shape
    root = root_of(output.name, ranges)
    tilings: list[Tiling] = []
    copied = np.zeros(channels, bool)
    first = 0
    for port in layer.inputs:
        source = context.source(port)
        found = root_of(port.tensor, ranges)
        place = config.lanes * (found.group - root.group) + port.first
        there = (found.whole, found.pixel, place) == (root.whole, root.pixel, first)
        copied[first : first + source.channels] = not there
        window = Select.every(source.channels)
        walk = window_walk(layer, window, source.shape, source.layout, whole=False)
        operands = layer_operands(layer, source.tensor, source.planes, config)
        matrix = identity_matrix(source.channels, channels, first, operands, source.lead)
        tilings.append(Tiling(matrix, operands, map_stream(window, source, walk)))
        first += source.channels
    # What lies in a column tile that is written for other parts is copied onto itself.
    wanted = np.unique(np.flatnonzero(copied) // config.cols).tolist()
    if not wanted:
        return ()
    for tiling in tilings:
        check_sums(layer, tiling, 1, config)
    copies = column_tiles(tilings, wanted, config)
    return (ArrayWork(Region(height, width), copies, context.finish_copies(layer)),)
