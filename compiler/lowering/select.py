"""Selections: a tile of ones, one for each channel that is copied, unless it lies there already."""

from collections.abc import Iterator
from typing import cast

import numpy as np

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums, map_stream
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.matrix import binary_matrix
from nupes.compiler.lowering.operands import layer_operands
from nupes.compiler.lowering.passes import ArrayWork
from nupes.compiler.lowering.walks import window_walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.ranges import Part
from nupes.model.arithmetic import requantize
from nupes.model.layer import Layer, Post
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Select

__all__ = ["lower", "parts"]


def parts(layer: Layer, network: IntegerNetwork) -> Iterator[Part]:
    """Yield that the result may lie where it is copied from, if codes of channels that follow one
    another stay as they are."""
    op, post, port = cast(Select, layer.op), cast(Post, layer.post), layer.inputs[0]
    book = network.tensors[port.tensor].codebook
    whole = port.shape(network.tensors[port.tensor].shape)[:2] == layer.output.shape[:2]
    alike = whole and not layer.wide and layer.output.codebook == book
    if op.first is None or not alike or post.residual is not None or layer.encoder is None:
        return
    tail, levels = post.requantize, book.levels.astype(np.int32)[:, None]
    y = requantize(levels.repeat(len(tail.mult), axis=1), tail.mult, tail.bias, tail.shift)
    if (layer.encoder(y) == np.arange(len(book))[:, None]).all():
        yield Part(layer.output.name, port.tensor, port.first + op.first)


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a selection of channels and pixels as work of the array."""
    op, config, post = cast(Select, layer.op), context.config, cast(Post, layer.post)
    name, port = layer.output.name, layer.inputs[0]
    found = context.placement.ranges.get(name)
    if found is not None and found.whole == port.tensor:
        return ()
    source = context.source(port)
    height, width, _ = layer.output.shape
    operands = layer_operands(layer, source.tensor, source.planes, config)
    walk = window_walk(layer, op, source.shape, source.layout, whole=False)
    ones = np.pad(op.matrix(source.channels), ((source.lead, 0), (0, 0)))
    tiling = Tiling(binary_matrix(ones, operands), operands, map_stream(op, source, walk))
    check_sums(layer, tiling, 1, config)
    work = ArrayWork(
        Region(height, width), all_columns(tiling, config), context.finish(layer, post)
    )
    return (work,)
