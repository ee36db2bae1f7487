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

LARGEST = 1e15
"""Largest magnitude of an input: sums of squares remain finite in float32."""

MOST_KEPT = 1 << 26
"""Largest number of values that are kept of what is given."""

MOST_READ = 1 << 16
"""Largest number of images that are read of an iterable, which may have no end."""


def gather_batches(calibration: Any) -> Tensor:
    """Return calibration data as one float32 tensor (n, ...) of ``MOST_KEPT`` values at most.

    Accepts an array or tensor, or an iterable of them; a batch may be a sequence whose first item
    is the images, as data loaders give. Of more images than are kept, evenly spread ones are; of
    an iterable ``MOST_READ`` are read, and they are thinned on the way, so that memory holds no
    more than three times what is kept.
    """
    if isinstance(calibration, (np.ndarray, Tensor)):
        check_kind(calibration)
        most = count_kept(calibration)
        return check_values(calibration, spread(len(calibration), most))
    if not isinstance(calibration, Iterable) or isinstance(calibration, (str, bytes, dict)):
        raise InputError(
            "calibration must be an array (batch, channels, height, width) or an iterable of them, "
            f"not {type(calibration).__name__}"
        )
    kept: list[Tensor] = []
    shape, most, read, stride = None, 0, 0, 1
    for batch in calibration:
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        check_kind(images)
        if not len(images):
            continue
        if shape is None:
            shape, most = tuple(images.shape[1:]), count_kept(images)
        elif tuple(images.shape[1:]) != shape:
            shapes = sorted({shape, tuple(images.shape[1:])})
            raise InputError(f"calibration images must have one shape, not {shapes}")
        # Every ``stride``-th image of all, so that what is kept is spread evenly at any time.
        chosen = range(-read % stride, min(len(images), MOST_READ - read), stride)
        kept.extend(check_values(images, torch.tensor(chosen, dtype=torch.long)))
        read += len(images)
        while len(kept) > 2 * most:
            # Clones, because images of one batch share its memory.
            kept, stride = [image.clone() for image in kept[::2]], 2 * stride
        if read >= MOST_READ:
            break
    if not kept:
        raise InputError("calibration must hold at least one image, not none")
    return torch.stack([kept[index] for index in spread(len(kept), most)])


def spread(count: int, most: int) -> Tensor:
    """Return the numbers of so many of ``count`` images at most, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def count_kept(images: np.ndarray | Tensor) -> int:
    """Return how many images of this shape are kept; refuse to keep none."""
    if not len(images):
        raise InputError("calibration must hold at least one image, not none")
    return max(1, MOST_KEPT // max(1, math.prod(images.shape[1:])))


def check_kind(batch: Any) -> None:
    """Refuse what is no array of images."""
    if not isinstance(batch, (np.ndarray, Tensor)):
        raise InputError(f"calibration batch must be an array, not {type(batch).__name__}")
    if isinstance(batch, np.ndarray):
        real = batch.dtype.kind in "fiu"
    else:
        real = not batch.is_complex() and batch.dtype != torch.bool
    if not real:
        raise InputError(f"calibration must be real numbers, not {batch.dtype}")
    if batch.ndim not in (2, 3, 4):
        raise InputError(
            "calibration must have two to four dimensions, the first of them the batch, not shape "
            f"{tuple(batch.shape)}"
        )


def check_values(batch: np.ndarray | Tensor, chosen: Tensor) -> Tensor:
    """Return a copy of the chosen images of a batch as float32 (n, ...), checked."""
    if isinstance(batch, np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(batch[chosen.numpy()], np.float32))
    else:
        tensor = batch.detach()[chosen.to(batch.device)].to("cpu", torch.float32)
    largest = tensor.abs().flatten(1).amax(1)
    for image, most in zip(chosen.tolist(), largest.tolist(), strict=True):
        if not math.isfinite(most):
            raise InputError(f"calibration must be finite; image {image} holds NaN or infinity")
        if most > LARGEST:
            raise InputError(
                f"calibration must be within {LARGEST:g}; image {image} is not, scale its values"
            )
    return tensor


def synthesize_inputs(
    shape: tuple[int, ...], bounds: tuple[float, float], images: int = SYNTHETIC_IMAGES
) -> Tensor:
    """Return float32 inputs (images, *shape) that fill a range: noise of several spatial scales;
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
    channels, height, width = (shape[0], *(1,) * (3 - len(shape)), *shape[1:])
    total = torch.zeros(images, channels, height, width)
    for factor in (1, 2, 4, 8):
        size = (-(-height // factor), -(-width // factor))
        noise = torch.randn(images, channels, *size, generator=generator)
        total += F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    flat = total.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-12)
    result = (low + high) / 2 + (high - low) / 2 * flat
    result[0, 0], result[-1, -1] = low, high
    return result.reshape(images, *shape)


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape of an input, checked."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sizes) not in (1, 2, 3) or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise InputError(
            "input_shape must be (channels, height, width), (channels, length), (tokens, channels) "
            f"or (features,), not {shape!r}"
        )
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
