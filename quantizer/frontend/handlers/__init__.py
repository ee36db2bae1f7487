"""Handlers by family; a module that is listed here has registered its operators."""

from nupes.quantizer.frontend.handlers import (
    arithmetic,
    convolution,
    linear,
    norms,
    padding,
    pointwise,
    pools,
    shapes,
)

__all__ = [
    "arithmetic",
    "convolution",
    "linear",
    "norms",
    "padding",
    "pointwise",
    "pools",
    "shapes",
]
