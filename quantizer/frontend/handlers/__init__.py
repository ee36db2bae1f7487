"""Handlers by family: a module named here registers its operators."""

from importlib import import_module

__all__ = ["FAMILIES"]

FAMILIES = (
    "arithmetic",
    "attention",
    "bilinear",
    "convolution",
    "group_norms",
    "joins",
    "layer_norms",
    "linear",
    "norms",
    "padding",
    "pointwise",
    "pools",
    "reductions",
    "resampling",
    "shapes",
    "slopes",
    "weighted_rows",
)

for family in FAMILIES:
    import_module(f"{__name__}.{family}")
