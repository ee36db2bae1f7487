"""Transposed convolutions: the results of each phase are a convolution with some of the taps, whose
results lie apart."""

from dataclasses import dataclass, replace
from itertools import product
from math import gcd
from typing import cast

from nupes.compiler.lowering.columns import Tiling, all_columns, check_sums
from nupes.compiler.lowering.context import Context, Source
from nupes.compiler.lowering.matrix import Matrix, conv_matrix
from nupes.compiler.lowering.operands import LayerOperands, layer_operands
from nupes.compiler.lowering.passes import ArrayWork, MapStream
from nupes.compiler.lowering.walks import phase_walk
from nupes.compiler.place.layout import Region
from nupes.compiler.place.placement import check_levels
from nupes.model.layer import Layer, Post
from nupes.model.operators import TransposedConv

__all__ = ["lower"]


@dataclass(frozen=True)
class Phase:
    """Along one axis: results ``first``, ``first + step`` and so on, ``count`` of them; the taps
    that reach a pixel, with the pixel that each reaches first; pixels from result to result."""

    first: int
    step: int
    count: int
    taps: tuple[tuple[int, int], ...]
    stride: int


def phases(op: TransposedConv, axis: int, results: int) -> list[Phase]:
    """Return the phases of an axis with so many results."""
    stretch, stride = op.stretch[axis], op.stride[axis]
    step = stretch // gcd(stretch, stride)
    found = []
    for first in range(min(step, results)):
        start = first * stride - op.padding[2 * axis]
        places = [(tap, start + tap * op.dilation[axis]) for tap in range(op.kernel[axis])]
        taps = tuple((tap, place // stretch) for tap, place in places if place % stretch == 0)
        count = -(-(results - first) // step)
        found.append(Phase(first, step, count, taps, step * stride // stretch))
    return found


def lower(layer: Layer, context: Context) -> tuple[ArrayWork, ...]:
    """Return a transposed convolution as work of the array: one for each pair of phases."""
    op, config, post = cast(TransposedConv, layer.op), context.config, cast(Post, layer.post)
    source = context.source(layer.inputs[0])
    check_levels(f"layer {layer.name!r}", op.codebook, "weight_level_bits", config)
    operands = layer_operands(layer, source.tensor, source.planes, config)
    matrix = conv_matrix(op, operands, source.lead)
    height, width, _ = layer.output.shape
    works = []
    for y, x in product(phases(op, 0, height), phases(op, 1, width)):
        tiling = tiling_of(layer, source, matrix, operands, (y, x))
        check_sums(layer, tiling, 1, config)
        region = Region(y.count, x.count, y.first, x.first, y.step, x.step)
        columns = all_columns(tiling, config)
        works.append(ArrayWork(region, columns, context.finish(layer, post)))
    return tuple(works)


def tiling_of(
    layer: Layer,
    source: Source,
    matrix: Matrix,
    operands: LayerOperands,
    phase: tuple[Phase, Phase],
) -> Tiling:
    """Return the taps of the results of one phase, and where they stream from."""
    y, x = phase
    taps = list(product(y.taps, x.taps))
    width = cast(TransposedConv, layer.op).kernel[1]
    chosen = [row * width + column for (row, _), (column, _) in taps]
    # Results that no tap reaches still need a stream.
    starts = [(top, left) for (_, top), (_, left) in taps] or [(0, 0)]
    walk = phase_walk(layer, x.count, (y.stride, x.stride), starts, source.layout)

    def place(plane: int, word: int, tap: int) -> MapStream:
        return MapStream(walk, source.layout, plane, word, *starts[tap])

    return Tiling(replace(matrix, digits=matrix.digits[:, chosen]), operands, place)
