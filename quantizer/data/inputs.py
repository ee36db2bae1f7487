"""The inputs of a quantization: what the user gives, or what is made up in its place."""

from typing import Any

import torch

from nupes.model.errors import InputError
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.data.calibration import Ranges, Shapes, gather_batches, synthesize_inputs
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["limit_images", "make_inputs"]

BUDGET = 1 << 26
"""Largest number of values of one tensor over all calibration images that are used."""


def make_inputs(calibration: Any, count: int, shapes: Shapes | None, ranges: Ranges) -> Batch:
    """Return calibration data for so many inputs, or data of these shapes and ranges where there
    are none."""
    if calibration is None:
        bounds = [some for some in ranges if some is not None]
        if shapes is None or len(bounds) < len(shapes):
            raise InputError(
                "calibration must be given, or both input_shape and input_range, not neither"
            )
        return synthesize_inputs(shapes, bounds)
    inputs = gather_batches(calibration, count)
    for shape, found in zip(shapes or inputs.shapes, inputs.shapes, strict=True):
        if shape != found:
            raise InputError(
                f"calibration images must have the shape {shape} of input_shape, not {found}"
            )
    return inputs


def limit_images(inputs: Batch, network: FusedNetwork) -> Batch:
    """Return as many images, evenly spread, as keep the largest tensor within the budget."""
    sizes = [height * width * channels for height, width, channels in network.shapes.values()]
    most = max(1, BUDGET // max(sizes))
    if len(inputs) <= most:
        return inputs
    return inputs[torch.linspace(0, len(inputs) - 1, most).long()]
