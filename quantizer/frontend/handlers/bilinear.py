"""Bilinear resampling: by whole numbers upwards a fixed transposed convolution of the map, its
edges repeated."""

from typing import Any

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, is_map, value_shape
from nupes.quantizer.frontend.graph import Convolution
from nupes.quantizer.frontend.handlers.resampling import resample
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import cross

__all__ = ["upsample_bilinear"]


def triangle(factor: int) -> np.ndarray:
    """Return the weights of values at growing distance on both sides of a result, float64: ``1 -
    distance / factor`` wherever that is positive."""
    distances = np.arange(2 * factor - factor % 2) - (2 * factor - factor % 2 - 1) / 2
    return 1 - np.abs(distances) / factor


@handles("upsample_bilinear2d", ignores=("output_size", "scale_factors", "scales_h", "scales_w"))
def upsample_bilinear(call: Call, input: fx.Node, align_corners: Any) -> str:
    """Translate bilinear resampling without aligned corners.

    Result o of factor s lies at ``(o + 1/2) / s - 1/2`` of the map. Beyond the edge the map's last
    value counts: the map is repeated by one pixel on each side, and stretched by s.
    """
    source = call.source(input)
    if not is_map(input):
        call.refuse(f"{call.kind} must be of a feature map")
    height, width, channels = source.shape
    rows, columns = value_shape(call.node)[-2:]
    if align_corners:
        call.refuse(
            "bilinear upsampling must have align_corners=False, not True, which has weights of its "
            "own at every pixel; set it to False, which moves values by less than a pixel"
        )
    if rows % height or columns % width:
        return resample(call, source, "bilinear")
    factors = rows // height, columns // width
    lines = (np.arange(-1, count + 1).clip(0, count - 1) for count in (height, width))
    repeated = cross(np.arange(channels), *lines)
    edges = call.add(repeated, (source.name,), repeated.size, call.kind, "edges")
    y, x = ((factor + factor % 2) // 2 - 1 - factor % 2 for factor in factors)
    kernel = np.outer(triangle(factors[0]), triangle(factors[1]))
    op = Convolution(
        np.repeat(kernel[None, None], channels, axis=0),
        np.zeros(channels),
        padding=(y, y, x, x),
        groups=channels,
        stretch=factors,
    )
    return call.add(op, (edges,), (rows, columns, channels), "upsample_bilinear2d")
