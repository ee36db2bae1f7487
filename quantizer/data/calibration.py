"""Calibration data: what the user gives, checked, or inputs made up in a stated range."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.errors import InputError
from nupes.quantizer.data.batch import Batch

__all__ = [
    "Range",
    "Ranges",
    "Shapes",
    "check_ranges",
    "check_shapes",
    "gather_batches",
    "synthesize_inputs",
]

Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input, without its batch."""

Range = tuple[float, float]
"""The least and the greatest value of an input."""

Ranges = tuple[Range | None, ...]
"""The range of each input, ``None`` where it is that of the images."""

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


def gather_batches(calibration: Any, count: int = 1) -> Batch:
    """Return calibration data of ``count`` inputs as float32 tensors (n, ...) of ``MOST_KEPT``
    values at most, all inputs together.

    For one input: an array or tensor, or an iterable of them; a batch may be a sequence whose first
    item is the images, as data loaders give. For several: a tuple or list of as many arrays, or an
    iterable of batches, each a tuple or list that begins with as many arrays.

    Of more images than are kept, evenly spread ones are; of an iterable ``MOST_READ`` are read, and
    they are thinned on the way, so that memory holds no more than three times what is kept.
    """
    if is_whole(calibration, count):
        parts = inputs_of(calibration, count, whole=True)
        chosen = spread(len(parts[0]), count_kept(parts))
        return Batch(tuple(check_values(part, chosen) for part in parts))
    if not isinstance(calibration, Iterable) or isinstance(calibration, (str, bytes, dict)):
        found = type(calibration).__name__
        if count > 1:
            raise InputError(
                f"calibration must be a tuple of {count} arrays, one for each input, or an "
                f"iterable of such tuples, not {found}"
            )
        raise InputError(
            "calibration must be an array (batch, channels, height, width) or an iterable of them, "
            f"not {found}"
        )
    kept: list[tuple[Tensor, ...]] = []
    shapes, most, read, stride = (), 0, 0, 1
    for batch in calibration:
        parts = inputs_of(batch, count)
        size = len(parts[0])
        if not size:
            continue
        found = tuple(tuple(part.shape[1:]) for part in parts)
        if not shapes:
            shapes, most = found, count_kept(parts)
        for pair in zip(shapes, found, strict=True):
            if len(set(pair)) > 1:
                raise InputError(f"calibration images must have one shape, not {sorted(pair)}")
        # Every ``stride``-th image of all, so that what is kept is spread evenly at any time.
        chosen = torch.tensor(range(-read % stride, min(size, MOST_READ - read), stride)).long()
        kept.extend(zip(*(check_values(part, chosen) for part in parts), strict=True))
        read += size
        while len(kept) > 2 * most:
            # Clones, because images of one batch share its memory.
            kept = [tuple(image.clone() for image in images) for images in kept[::2]]
            stride *= 2
        if read >= MOST_READ:
            break
    if not kept:
        raise InputError("calibration must hold at least one image, not none")
    chosen = spread(len(kept), most).tolist()
    return Batch(tuple(torch.stack([kept[index][k] for index in chosen]) for k in range(count)))


def is_whole(calibration: Any, count: int) -> bool:
    """Whether calibration data are the arrays of the inputs themselves, not batches of them."""
    if isinstance(calibration, (np.ndarray, Tensor)) or count == 1:
        return isinstance(calibration, (np.ndarray, Tensor))
    return isinstance(calibration, (tuple, list)) and any(
        isinstance(part, (np.ndarray, Tensor)) for part in calibration
    )


def inputs_of(batch: Any, count: int, *, whole: bool = False) -> tuple[Any, ...]:
    """Return the arrays of each input that a batch begins with, checked; the ``whole`` of the data
    must have no more."""
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    parts = parts if whole else parts[:count]
    for part in parts:
        check_kind(part)
    if len(parts) != count:
        raise InputError(
            f"calibration must have an array for each of the module's {count} inputs, in a tuple, "
            f"not {len(parts)}"
        )
    sizes = [len(part) for part in parts]
    if len(set(sizes)) > 1:
        raise InputError(f"calibration must have as many images of each input, not {sizes}")
    return parts


def spread(count: int, most: int) -> Tensor:
    """Return the numbers of so many of ``count`` images at most, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def count_kept(parts: Sequence[np.ndarray | Tensor]) -> int:
    """Return how many images of these shapes are kept; refuse to keep none."""
    if not len(parts[0]):
        raise InputError("calibration must hold at least one image, not none")
    return max(1, MOST_KEPT // max(1, sum(math.prod(part.shape[1:]) for part in parts)))


def check_kind(batch: Any) -> None:
    """Refuse what is no array of images."""
    if not isinstance(batch, (np.ndarray, Tensor)):
        raise InputError(f"calibration batch must be an array, not {type(batch).__name__}")
    if isinstance(batch, np.ndarray):
        real = batch.dtype.kind in ("biuf" if batch.ndim == 2 else "iuf")
    else:
        real = not batch.is_complex() and (batch.ndim == 2 or batch.dtype != torch.bool)
    if not real:
        raise InputError(f"calibration must be real numbers, not {batch.dtype}")
    if batch.ndim not in (2, 3, 4):
        raise InputError(
            "calibration must have two to four dimensions, the first of them the batch, not shape "
            f"{tuple(batch.shape)}"
        )


def check_values(batch: np.ndarray | Tensor, chosen: Tensor) -> Tensor:
    """Return a copy of the chosen images of a batch as float32 (n, ...), or of integers (n, t),
    which may be ids, as int64; they are checked."""
    if isinstance(batch, np.ndarray):
        kind = np.int64 if batch.ndim == 2 and batch.dtype.kind in "biu" else np.float32
        tensor = torch.from_numpy(np.array(batch[chosen.numpy()], kind, order="C"))
    else:
        real = batch.ndim != 2 or batch.is_floating_point()
        kind = torch.float32 if real else torch.int64
        tensor = batch.detach()[chosen.to(batch.device)].to("cpu", kind)
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
    shapes: Shapes, ranges: Sequence[Range], images: int = SYNTHETIC_IMAGES
) -> Batch:
    """Return float32 inputs (images, *shape) that fill ranges: noise of several spatial scales;
    fewer images if they would have over ``MOST_VALUES`` values.

    Both ends of a range occur, so that the input's scale covers it.
    """
    size = sum(map(math.prod, shapes))
    images = min(images, MOST_VALUES // size)
    if not images:
        raise InputError(f"input_shape must have at most {MOST_VALUES:,} values, not {size:,}")
    generator = torch.Generator().manual_seed(0)
    pairs = zip(shapes, ranges, strict=True)
    return Batch(tuple(synthesize(images, shape, bounds, generator) for shape, bounds in pairs))


def synthesize(
    images: int, shape: tuple[int, ...], bounds: Range, generator: torch.Generator
) -> Tensor:
    """Return images (images, *shape) of noise of several spatial scales, within bounds."""
    low, high = bounds
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


def check_shapes(shape: Any) -> Shapes:
    """Return the shape of each input, checked: of one shape, or of several in a tuple or list."""
    several = isinstance(shape, (tuple, list)) and any(isinstance(x, (tuple, list)) for x in shape)
    return tuple(map(check_shape, shape)) if several else (check_shape(shape),)


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape of an input, checked."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(sizes) not in (1, 2, 3) or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise InputError(
            "input_shape must be (channels, height, width), (channels, length), (tokens, channels) "
            f"or (features,), not {shape!r}"
        )
    return sizes


def check_ranges(bounds: Any, count: int) -> Ranges:
    """Return the range of each of ``count`` inputs, checked: of one range that holds for all, of a
    tuple or list of one for each, or of none."""
    if not isinstance(bounds, (tuple, list)) or not any(
        isinstance(some, (tuple, list)) for some in bounds
    ):
        return (None if bounds is None else check_range(bounds),) * count
    if len(bounds) != count:
        raise InputError(
            f"input_range must be (low, high), or one for each of the module's {count} inputs, not "
            f"{len(bounds)} of them"
        )
    return tuple(None if some is None else check_range(some) for some in bounds)


def check_range(bounds: Any) -> Range:
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
