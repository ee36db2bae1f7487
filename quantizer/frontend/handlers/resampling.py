"""Bilinear and bicubic resampling by any ratio: a convolution for each axis.

From ``g * M`` rows to ``g * L`` rows the weights of row o are those of row ``o + L``, M rows
further: a convolution of stride M gives L channels for each, which become rows. Beyond the edge the
map's last value counts.
"""

from math import gcd
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from nupes.model.operators import Mosaic, Piece
from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Convolution, Node
from nupes.quantizer.frontend.pieces import MOST_PIECES
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import cross

__all__ = ["resample", "upsample_bicubic"]

PERIODS = 9
"""Periods of weights that are made, of which the middle one is far from both edges."""


@handles("upsample_bicubic2d", ignores=("output_size", "scale_factors", "scales_h", "scales_w"))
def upsample_bicubic(call: Call, input: fx.Node, align_corners: Any) -> str:
    """Translate bicubic resampling without aligned corners."""
    source = call.source(input)
    if not is_map(input):
        call.refuse(f"{call.kind} must be of a feature map")
    if align_corners:
        call.refuse(
            "bicubic resampling must have align_corners=False, not True, which has weights of its "
            "own at every pixel; set it to False, which moves values by less than a pixel"
        )
    return resample(call, source, "bicubic")


def resample(call: Call, source: Node, mode: str) -> str:
    """Add a map resampled to the rows and columns of the call's value."""
    for axis, count in enumerate(value_shape(call.node)[-2:]):
        if source.shape[axis] != count:
            source = along(call, source, axis, count, mode)
    return source.name


def along(call: Call, source: Node, axis: int, count: int, mode: str) -> Node:
    """Add a map resampled to so many rows, or columns."""
    size, nodes = source.shape[axis], call.values.graph.nodes
    periods = gcd(size, count)
    rows, step = count // periods, size // periods
    if rows > MOST_PIECES:
        call.refuse(
            f"resampling must be by a ratio of small numbers, not from {size} to {count} pixels"
        )
    first, weights = weights_of(rows, step, mode)
    taken = np.arange(first, first + (periods - 1) * step + weights.shape[1]).clip(0, size - 1)
    lines = [np.arange(side) for side in source.shape[:2]]
    lines[axis] = taken
    channels = source.shape[2]
    if not np.array_equal(taken, np.arange(size)):
        edges = cross(np.arange(channels), *lines)
        source = nodes[call.add(edges, (source.name,), edges.size, call.kind, "edges")]
    kernel, stride, shape = [1, 1], [1, 1], list(source.shape[:2])
    kernel[axis], stride[axis], shape[axis] = weights.shape[1], step, periods
    weight = np.tile(weights, (channels, 1)).reshape(channels * rows, 1, *kernel)
    op = Convolution(weight, np.zeros(len(weight)), stride=(stride[0], stride[1]), groups=channels)
    size_of = (shape[0], shape[1], channels * rows)
    name = call.add(op, (source.name,), size_of, call.kind, "rows" if axis == 0 else "columns")
    if rows == 1:
        return nodes[name]
    result = list(shape)
    result[axis] = count
    pieces = []
    for number in range(rows):
        to, apart = [0, 0], [1, 1]
        to[axis], apart[axis] = number, rows
        counts = (shape[0], shape[1], channels)
        pieces.append(
            Piece(0, counts, (*to, 0), (*apart, 1), (0, 0, number), (1, 1, rows))  # type: ignore[arg-type]
        )
    spread = Mosaic((result[0], result[1], channels), tuple(pieces))
    return nodes[call.add(spread, (name,), spread.size, call.kind, "spread")]


def weights_of(rows: int, step: int, mode: str) -> tuple[int, np.ndarray]:
    """Return the weights (rows, n) of a period's rows, made of ``step`` rows each, and the first
    row, counted from the period's own, that they are of; float64."""
    size, middle = PERIODS * step, PERIODS // 2
    ones = torch.eye(size, dtype=torch.float64).reshape(1, size, size, 1)
    made = F.interpolate(ones, (PERIODS * rows, 1), mode=mode, align_corners=False)[0, :, :, 0]
    period = made.T[middle * rows : (middle + 1) * rows].numpy()
    (used,) = np.nonzero(period.any(axis=0))
    first, last = int(used[0]), int(used[-1]) + 1
    return first - middle * step, period[:, first:last]
