"""The inputs of a quantization: what the user gives, or what is made up in its place."""

from typing import Any

import torch
from torch import Tensor

from nupes.model.errors import InputError
from nupes.quantizer.data.calibration import gather_batches, synthesize_inputs
from nupes.quantizer.stages.stage import FusedNetwork

__all__ = ["limit_images", "make_inputs"]

BUDGET = 1 << 26
"""Largest number of values of one tensor over all calibration images that are used."""


def make_inputs(
    calibration: Any,
    shape: tuple[int, ...] | None,
    bounds: tuple[float, float] | None,
) -> Tensor:
    """Return calibration data as one tensor (n, ...), or inputs of a shape and range where
    there are none."""
    if calibration is None:
        if shape is None or bounds is None:
            raise InputError(
                "calibration must be given, or both input_shape and input_range, not neither"
            )
        return synthesize_inputs(shape, bounds)
    inputs = gather_batches(calibration)
    if shape is not None and shape != inputs.shape[1:]:
        raise InputError(
            f"calibration images must have the shape {shape} of input_shape, not "
            f"{tuple(inputs.shape[1:])}"
        )
    return inputs


def limit_images(inputs: Tensor, network: FusedNetwork) -> Tensor:
    """Return as many images, evenly spread, as keep the largest tensor within the budget."""
    sizes = [height * width * channels for height, width, channels in network.shapes.values()]
    most = max(1, BUDGET // max(sizes))
    if len(inputs) <= most:
        return inputs
    return inputs[torch.linspace(0, len(inputs) - 1, most).long()]
