"""The code of a network's input, without error where images are pixels.

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
from nupes.quantizer.codes.candidates import make_levels
from nupes.quantizer.codes.decisions import TensorCode, round_values
from nupes.quantizer.options.bits import BitPlan
from nupes.quantizer.options.recipe import Recipe
from nupes.quantizer.search.equalization import rescale
from nupes.quantizer.search.tensors import fixed_range
from nupes.quantizer.stages.stage import FusedNetwork, weighted

__all__ = ["code_input", "equal_steps", "pixel_steps", "thin"]

SAMPLE = 1 << 20
"""Values of a channel in which its step is looked for, and of images whose error is measured."""

TOLERANCE = 1e-3
"""How far from a whole multiple a pixel may lie, in steps: float32 after an affine."""

CODES = 256
"""Codes of an 8-bit input."""

TIE = 0.01
"""How near to the middle of two levels pixels are moved away from it, in steps."""


def code_input(
    network: FusedNetwork,
    images: Tensor,
    plan: BitPlan,
    recipe: Recipe,
    input_range: tuple[float, float] | None,
) -> tuple[FusedNetwork, TensorCode | None]:
    """Return the network whose input's channels have equal steps, and the code of that input.

    8 bits cover ``input_range``, or what occurs in the images (n, c, h, w), evenly, or are pixels
    where that is nearer. ``None`` leaves the code of fewer bits to the search; uniform ones cover
    the range here too.
    """
    bits = plan.tensors[network.input.name]
    if bits < 8 and recipe.family != "uniform":
        return network, None
    plain = fixed_range(*covered(network, images, input_range), bits)
    if bits < 8:
        return network, plain
    # The levels of 8 bits lie in 256 neighbours, but for arrays that may be as wide: narrower ones
    # run a tensor as digits of its level, and a wider span costs one more.
    wide = recipe.tables and min((*plan.tensors.values(), *plan.weights.values())) == 8
    found = code_pixels(network, images, input_range, wide)
    if found is None:
        return network, plain
    # Biases take up what is constant in a channel, but only convolutions have them corrected.
    centred = recipe.correct_bias and read_by_convolutions(network)
    before, after = (input_error(images, *coded, centred) for coded in ((network, plain), found))
    return found if after < before else (network, plain)


def read_by_convolutions(network: FusedNetwork) -> bool:
    """Return whether convolutions alone read the network's input."""
    name = network.input.name
    readers = network.readers()[name]
    return len(weighted(readers)) == len(readers) and all(s.residual != name for s in readers)


def covered(
    network: FusedNetwork, images: Tensor, input_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the range of the network's input, its affine applied."""
    values = images
    if input_range is not None:
        ends = torch.tensor(input_range).reshape(2, 1, 1, 1)
        values = ends.expand(2, *images.shape[1:])
    values = network.scale_input(values)
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


def equal_steps(network: FusedNetwork, images: Tensor) -> tuple[FusedNetwork, float] | None:
    """Return the network whose input has one step for all channels, and that step; ``None`` where
    images have none, or where channels need factors and the input has other readers than
    convolutions. A channel of few steps has whole parts of them, so that factors remain small."""
    found = pixel_steps(images)
    if found is None or np.isnan(found[0]).all():
        return None
    steps, spans = found
    parts = np.maximum(1, np.nanmax(spans) // spans)
    steps = steps * network.input_scale / parts
    step = float(np.exp(np.nanmean(np.log(steps))))
    factor = np.where(np.isnan(steps), 1.0, steps / step)
    if np.allclose(factor, 1, rtol=1e-6):
        return network, step
    if not read_by_convolutions(network):
        return None
    factors = {stage.name: np.ones(stage.shape[2]) for stage in network.stages}
    scaled = replace(
        rescale(network, {network.input.name: factor, **factors}),
        input_scale=network.input_scale / factor,
        input_shift=network.input_shift / factor,
    )
    return scaled, step


def code_pixels(
    network: FusedNetwork, images: Tensor, input_range: tuple[float, float] | None, wide: bool
) -> tuple[FusedNetwork, TensorCode] | None:
    """Return the network with equal steps and levels that are pixels, or whole parts of them where
    few codes are taken.

    Codes that are left over lie evenly around the range. Where the pixels of all channels together
    are too many, levels may lie ``wide``, and what is to be covered occurs in the images, those are
    left out that cost the least.
    """
    aligned = equal_steps(network, images)
    if aligned is None:
        return None
    network, step = aligned
    low, high = covered(network, images, input_range)
    parts = int((CODES - 0.5) * step // max(high - low, high, -low))
    if parts == 0 and not wide:
        return None
    step /= max(1, parts)
    network = avoid_ties(network, images, step)
    first, last = (round(end / step) for end in covered(network, images, input_range))
    if first < ACTIVATION_LEVELS[0] or last > ACTIVATION_LEVELS[1]:
        return None
    if last - first < CODES:
        below = min(-first + (CODES - 1 - (last - first)) // 2, CODES - 1)
        below = below if first < 0 else 0
        return network, TensorCode(make_levels(8, below > 0, below, None), step, None)
    position = torch.round(network.scale_input(images) / step).long().flatten() - first
    if int(position.min()) > 0 or int(position.max()) < last - first:
        return None
    count = torch.bincount(position.clamp(0, last - first)).numpy()
    levels = thin(np.arange(first, last + 1), count)
    return network, TensorCode(table_codebook(levels, 8), step, None)


def avoid_ties(network: FusedNetwork, images: Tensor, step: float) -> FusedNetwork:
    """Return the network whose pixels do not lie in the middle of two levels, where the last bit of
    a float would decide: channels that do are moved by a fiftieth of a step."""
    lowest = network.scale_input(images.amin((0, 2, 3), keepdim=True)).flatten().double().numpy()
    tie = np.abs(lowest / step % 1 - 0.5) < TIE
    return replace(network, input_shift=network.input_shift - 2 * TIE * step * tie)


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


def input_error(images: Tensor, network: FusedNetwork, code: TensorCode, centred: bool) -> float:
    """Return the mean squared error of the input in units of the images; ``centred`` takes out what
    is constant in a channel."""
    stride = images.numel() // SAMPLE | 1
    values = network.scale_input(images.flatten(2)[:, :, ::stride, None])
    error = (round_values(values, code) - values).double()
    if centred:
        error = error - error.mean((0, 2, 3), keepdim=True)
    each = error.square().mean((0, 2, 3)).numpy()
    return float((each / network.input_scale**2).mean())
