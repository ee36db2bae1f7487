"""Calibration data: what the user gives, checked, or inputs made up in a stated range."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.errors import InputError

__all__ = ["check_range", "check_shape", "gather_batches", "synthesize_inputs"]

SYNTHETIC_IMAGES = 256
"""Number of inputs that are made up where there are no data."""

MOST_VALUES = 1 << 26
"""Largest number of values that are made up in all."""

LARGEST = 1e30
"""Largest magnitude of an input: sums of squares remain finite."""


def gather_batches(calibration: Any) -> Tensor:
    """Return calibration data as one float32 tensor (n, c, h, w).

    Accepts an array or tensor, or an iterable of them; a batch may be a sequence whose first item
    is the images, as data loaders give.
    """
    if isinstance(calibration, (np.ndarray, Tensor)):
        batches = [calibration]
    elif isinstance(calibration, Iterable) and not isinstance(calibration, (str, bytes, dict)):
        batches = [batch[0] if isinstance(batch, (tuple, list)) else batch for batch in calibration]
    else:
        raise InputError(
            "calibration must be an array (batch, channels, height, width) or an iterable of them, "
            f"not {type(calibration).__name__}"
        )
    tensors = [check_batch(batch) for batch in batches]
    tensors = [tensor for tensor in tensors if len(tensor)]
    if not tensors:
        raise InputError("calibration must hold at least one image, not none")
    shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
    if len(shapes) > 1:
        raise InputError(f"calibration images must have one shape, not {sorted(shapes)}")
    return torch.cat(tensors)


def check_batch(batch: Any) -> Tensor:
    """Return one batch as float32 (n, c, h, w), finite."""
    if not isinstance(batch, (np.ndarray, Tensor)):
        raise InputError(f"calibration batch must be an array, not {type(batch).__name__}")
    if isinstance(batch, np.ndarray):
        if batch.dtype.kind not in "fiu":
            raise InputError(f"calibration must be real numbers, not {batch.dtype}")
        batch = torch.from_numpy(np.ascontiguousarray(batch, np.float32))
    elif batch.is_complex() or batch.dtype == torch.bool:
        raise InputError(f"calibration must be real numbers, not {batch.dtype}")
    tensor = batch.detach().to("cpu", torch.float32)
    if tensor.ndim != 4:
        raise InputError(
            "calibration must have shape (batch, channels, height, width), not "
            f"{tuple(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).flatten(1).any(1).nonzero()[0, 0])
        raise InputError(f"calibration must be finite; image {bad} holds NaN or infinity")
    return tensor


def synthesize_inputs(
    shape: tuple[int, ...], bounds: tuple[float, float], images: int = SYNTHETIC_IMAGES
) -> Tensor:
    """Return float32 inputs (images, c, h, w) that fill a range: noise of several spatial scales;
    fewer images if they would have over ``MOST_VALUES`` values.

    Both ends of the range occur, so that the input's scale covers it.
    """
    low, high = check_range(bounds)
    shape = check_shape(shape)
    images = min(images, MOST_VALUES // math.prod(shape))
    if not images:
        raise InputError(
            f"input_shape must have at most {MOST_VALUES:,} values, not {math.prod(shape):,}"
        )
    generator = torch.Generator().manual_seed(0)
    channels, height, width = shape
    total = torch.zeros(images, channels, height, width)
    for factor in (1, 2, 4, 8):
        size = (-(-height // factor), -(-width // factor))
        noise = torch.randn(images, channels, *size, generator=generator)
        total += F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    flat = total.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-12)
    result = (low + high) / 2 + (high - low) / 2 * flat
    result[0, 0], result[-1, -1] = low, high
    return result.reshape(total.shape)


def check_shape(shape: Any) -> tuple[int, int, int]:
    """Return (channels, height, width) of an input, checked."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sizes) != 3 or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError(f"input_shape must be (channels, height, width), not {shape!r}")
    return sizes


def check_range(bounds: tuple[float, float]) -> tuple[float, float]:
    """Return (low, high) of an input range, checked."""
    try:
        low, high = (float(value) for value in bounds)
    except (TypeError, ValueError) as error:
        raise InputError(f"input_range must be (low, high), not {bounds!r}") from error
    if not -LARGEST <= low < high <= LARGEST:
        raise InputError(
            f"input_range must be (low, high) with low < high, within {LARGEST:g}, not {bounds!r}"
        )
    return low, high
