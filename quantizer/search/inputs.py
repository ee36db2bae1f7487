"""The codes of a network's inputs, without error where images are pixels.

Pixels are whole multiples of one step, behind an affine for each channel: a normalisation, in the
module or before it. A tensor has one scale, and each channel its own step; but readers that are
convolutions take any factor of a channel in their weights, so the steps can be made equal. A level
is then a pixel: rounding moves a channel by a constant, at most half a step, which goes in the
biases (all but the part that padding keeps out).
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nupes.model.codebook import ACTIVATION_LEVELS, table_codebook
from nupes.model.errors import InputError
from nupes.quantizer.codes.candidates import make_levels
from nupes.quantizer.codes.decisions import TensorCode, round_values
from nupes.quantizer.data.batch import Batch
from nupes.quantizer.data.calibration import Range, Ranges
from nupes.quantizer.frontend.key_masks import LEAST
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.equalization import rescale
from nupes.quantizer.search.tensors import fixed_range
from nupes.quantizer.stages.masks import MASK, masking
from nupes.quantizer.stages.stage import Entry, FusedNetwork, weighted

__all__ = ["check_masks", "code_input", "code_inputs", "equal_steps", "pixel_steps", "thin"]

SAMPLE = 1 << 20
"""Values of a channel in which its step is looked for, and of images whose error is measured."""

TOLERANCE = 1e-3
"""How far from a whole multiple a pixel may lie, in steps: float32 after an affine."""

CODES = 256
"""Codes of an 8-bit input."""

TIE = 0.01
"""How near to the middle of two levels pixels are moved away from it, in steps."""


def code_inputs(
    network: FusedNetwork, inputs: Batch, plan: BitPlan, recipe: Recipe, ranges: Ranges
) -> tuple[FusedNetwork, dict[str, TensorCode]]:
    """Return the network whose inputs' channels have equal steps, and the codes of those inputs,
    and of masks, that need no search; ``ranges`` are to be covered, one for each input."""
    codes: dict[str, TensorCode] = {}
    masks = masking(network)
    for index, (images, bounds) in enumerate(zip(inputs, ranges, strict=True)):
        name = network.inputs[index].name
        if name in masks:
            continue
        network, code = code_input(network, name, images, plan, recipe, bounds)
        if code is not None:
            codes[name] = code
    return network, codes | dict.fromkeys(masks, MASK)


def check_masks(network: FusedNetwork, inputs: Batch) -> None:
    """Refuse a mask among the inputs that lowers scores by less than what makes an exponential
    0."""
    masks = masking(network)
    for entry, images in zip(network.inputs, inputs, strict=True):
        added = entry.start(images)
        between = added[(added != 0) & (added > LEAST)]
        if entry.name in masks and between.numel():
            raise InputError(
                f"input {entry.name!r}: a mask must add 0 or at most {LEAST:g} to scores, not "
                f"{float(between[0]):g}"
            )


def code_input(
    network: FusedNetwork,
    name: str,
    images: Tensor,
    plan: BitPlan,
    recipe: Recipe,
    input_range: Range | None,
) -> tuple[FusedNetwork, TensorCode | None]:
    """Return the network of which the named input's channels have equal steps, and its code.

    8 bits cover ``input_range``, or what occurs in the images (n, c, h, w), evenly, or are pixels
    where that is nearer. ``None`` leaves the code of fewer bits to the search; uniform ones cover
    the range here too.
    """
    bits, entry = plan.tensors[name], network.entry(name)
    if bits < 8 and recipe.family != "uniform":
        return network, None
    plain = fixed_range(*covered(entry, images, input_range), bits)
    if bits < 8:
        return network, plain
    # The levels of 8 bits lie in 256 neighbours, but for arrays that may be as wide: narrower ones
    # run a tensor as digits of its level, and a wider span costs one more.
    wide = recipe.tables and min((*plan.tensors.values(), *plan.weights.values())) == 8
    found = code_pixels(network, name, images, input_range, wide)
    if found is None:
        return network, plain
    # Biases take up what is constant in a channel, but only convolutions have them corrected.
    centred = recipe.correct_bias and read_by_convolutions(network, name)
    before, after = (
        input_error(images, some.entry(name), code, centred)
        for some, code in ((network, plain), found)
    )
    return found if after < before else (network, plain)


def read_by_convolutions(network: FusedNetwork, name: str) -> bool:
    """Return whether convolutions alone read an input."""
    readers = network.readers()[name]
    return len(weighted(readers)) == len(readers) and all(s.residual != name for s in readers)


def covered(entry: Entry, images: Tensor, input_range: Range | None) -> Range:
    """Return the range of an input, its affine applied."""
    values = images
    if input_range is not None:
        ends = torch.tensor(input_range).reshape(2, 1, 1, 1)
        values = ends.expand(2, *images.shape[1:])
    values = entry.start(values)
    return float(values.min()), float(values.max())


def pixel_steps(images: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the step (c,) of each channel of images (n, c, h, w), and how many (c,) it spans, NaN
    where it is constant; ``None`` where a channel spans more than 255, or has values in between."""
    steps, spans = np.full((2, images.shape[1]), np.nan)
    for channel in range(images.shape[1]):
        values = images[:, channel].flatten()
        low, high = float(values.min()), float(values.max())
        if low == high:
            continue
        # An odd stride visits every column of maps whose width is a power of two.
        some = torch.cat([values[:: len(values) // SAMPLE | 1], torch.tensor([low, high])])
        found = torch.unique(some).double()
        if len(found) > CODES:
            return None
        span = round((high - low) / float(found.diff().min()))
        steps[channel], spans[channel] = (high - low) / span, span
        position = (values.double() - low) / steps[channel]
        if span >= CODES or float((position - position.round()).abs().max()) > TOLERANCE:
            return None
    return steps, spans


def equal_steps(
    network: FusedNetwork, name: str, images: Tensor
) -> tuple[FusedNetwork, float] | None:
    """Return the network whose named input has one step for all channels, and that step; ``None``
    where images have none, or where channels need factors and the input has other readers than
    convolutions. A channel of few steps has whole parts of them, so that factors remain small."""
    found = pixel_steps(images)
    if found is None or np.isnan(found[0]).all():
        return None
    steps, spans = found
    parts = np.maximum(1, np.nanmax(spans) // spans)
    entry = network.entry(name)
    steps = steps * entry.scale / parts
    step = float(np.exp(np.nanmean(np.log(steps))))
    factor = np.where(np.isnan(steps), 1.0, steps / step)
    if np.allclose(factor, 1, rtol=1e-6):
        return network, step
    if not read_by_convolutions(network, name):
        return None
    factors = {other: np.ones(shape[2]) for other, shape in network.shapes.items()}
    scaled = rescale(network, {**factors, name: factor})
    return scaled.with_entry(
        replace(entry, scale=entry.scale / factor, shift=entry.shift / factor)
    ), step


def code_pixels(
    network: FusedNetwork, name: str, images: Tensor, input_range: Range | None, wide: bool
) -> tuple[FusedNetwork, TensorCode] | None:
    """Return the network with equal steps and levels that are pixels, or whole parts of them where
    few codes are taken.

    Codes that are left over lie evenly around the range. Where the pixels of all channels together
    are too many, levels may lie ``wide``, and what is to be covered occurs in the images, those are
    left out that cost the least.
    """
    aligned = equal_steps(network, name, images)
    if aligned is None:
        return None
    network, step = aligned
    low, high = covered(network.entry(name), images, input_range)
    parts = int((CODES - 0.5) * step // max(high - low, high, -low))
    if parts == 0 and not wide:
        return None
    step /= max(1, parts)
    entry = avoid_ties(network.entry(name), images, step)
    network = network.with_entry(entry)
    first, last = (round(end / step) for end in covered(entry, images, input_range))
    if first < ACTIVATION_LEVELS[0] or last > ACTIVATION_LEVELS[1]:
        return None
    if last - first < CODES:
        below = min(-first + (CODES - 1 - (last - first)) // 2, CODES - 1)
        below = below if first < 0 else 0
        return network, TensorCode(make_levels(8, below > 0, below, None), step, None)
    position = torch.round(entry.start(images) / step).long().flatten() - first
    if int(position.min()) > 0 or int(position.max()) < last - first:
        return None
    count = torch.bincount(position.clamp(0, last - first)).numpy()
    levels = thin(np.arange(first, last + 1), count)
    return network, TensorCode(table_codebook(levels, 8), step, None)


def avoid_ties(entry: Entry, images: Tensor, step: float) -> Entry:
    """Return an input whose pixels do not lie in the middle of two levels, where the last bit of
    a float would decide: channels that do are moved by a fiftieth of a step."""
    lowest = entry.start(images.amin((0, 2, 3), keepdim=True)).flatten().double().numpy()
    tie = np.abs(lowest / step % 1 - 0.5) < TIE
    return replace(entry, shift=entry.shift - 2 * TIE * step * tie)


def thin(levels: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return 256 of sorted levels (k,) that occur ``count`` (k,) times: one after another the one
    is left out that is cheapest to move to its nearest neighbour, which has its values then."""
    count = count.copy()
    while len(levels) > CODES:
        gaps = np.diff(levels)
        gap = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
        least = int(np.argmin((count + 1) * gap**2))
        up = least == 0 or (least < len(gaps) and gaps[least] < gaps[least - 1])
        count[least + 1 if up else least - 1] += count[least]
        levels, count = np.delete(levels, least), np.delete(count, least)
    return levels


def input_error(images: Tensor, entry: Entry, code: TensorCode, centred: bool) -> float:
    """Return the mean squared error of an input in units of the images; ``centred`` takes out what
    is constant in a channel."""
    stride = images.numel() // SAMPLE | 1
    values = entry.start(images.flatten(2)[:, :, ::stride, None])
    error = (round_values(values, code) - values).double()
    if centred:
        error = error - error.mean((0, 2, 3), keepdim=True)
    each = error.square().mean((0, 2, 3)).numpy()
    return float((each / entry.scale**2).mean())
