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
from nupes.quantizer.activations import TensorCode, fixed_range
from nupes.quantizer.bits import BitPlan
from nupes.quantizer.choices import round_values
from nupes.quantizer.equalize import rescale
from nupes.quantizer.fuse import FusedNetwork
from nupes.quantizer.graph import Convolution
from nupes.quantizer.levels import make_levels
from nupes.quantizer.recipe import Recipe

__all__ = ["code_input", "equal_steps", "pixel_steps"]

SAMPLE = 1 << 20
"""Values of a channel in which its step is looked for, and of images whose error is measured."""

TOLERANCE = 1e-3
"""How far from a whole multiple a pixel may lie, in steps: float32 after an affine."""

CODES = 256
"""Codes of an 8-bit input."""


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
    low, high = covered(network, images, input_range)
    plain = fixed_range(low, high, bits)
    aligned = equal_steps(network, images) if bits == 8 else None
    if aligned is None:
        return network, plain
    scaled, step = aligned
    # The levels of 8 bits lie in 256 neighbours, but for arrays that may be as wide: narrower ones
    # run a tensor as digits of its level, and a wider span costs one more.
    least = min((*plan.tensors.values(), *plan.weights.values()))
    wide = recipe.family == "power" and least == 8
    code = pixel_code(scaled, images, step, covered(scaled, images, input_range), wide)
    if code is None:
        return network, plain
    centred = recipe.correct_bias
    before = input_error(network, images, plain, centred)
    after = input_error(scaled, images, code, centred)
    return (scaled, code) if after < before else (network, plain)


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


def pixel_steps(images: Tensor) -> np.ndarray | None:
    """Return the step (c,) of each channel of images (n, c, h, w), NaN where it is constant;
    ``None`` where a channel has more than 255 steps or values in between."""
    steps = np.full(images.shape[1], np.nan)
    for channel in range(images.shape[1]):
        values = images[:, channel].flatten()
        found = torch.unique(values[:: max(1, len(values) // SAMPLE)]).double()
        if len(found) > CODES:
            return None
        if len(found) == 1:
            continue
        step, span = float(found.diff().min()), float(found[-1] - found[0])
        steps[channel] = step = span / max(1, round(span / step))
        low, high = float(values.min()), float(values.max())
        position = (values.double() - low) / step
        fraction = float((position - position.round()).abs().max())
        if fraction > TOLERANCE or round((high - low) / step) >= CODES:
            return None
    return steps


def equal_steps(network: FusedNetwork, images: Tensor) -> tuple[FusedNetwork, float] | None:
    """Return the network whose input has one step for all channels, and that step; ``None`` where
    images have none, or where the input has other readers than convolutions."""
    steps = pixel_steps(images)
    if steps is None or np.isnan(steps).all():
        return None
    steps = steps * network.input_scale
    step = float(np.exp(np.nanmean(np.log(steps))))
    factor = np.where(np.isnan(steps), 1.0, steps / step)
    if np.allclose(factor, 1, rtol=1e-6):
        return network, step
    name = network.input.name
    for stage in network.readers()[name]:
        if stage.residual == name or not isinstance(stage.op, Convolution):
            return None
    factors = {stage.name: np.ones(stage.shape[2]) for stage in network.stages}
    scaled = replace(
        rescale(network, {name: factor, **factors}),
        input_scale=network.input_scale / factor,
        input_shift=network.input_shift / factor,
    )
    return scaled, step


def pixel_code(
    network: FusedNetwork, images: Tensor, step: float, ends: tuple[float, float], wide: bool
) -> TensorCode | None:
    """Return levels that are pixels, or whole parts of them where few codes are taken.

    Codes that are left over lie evenly around the range. Where the pixels of all channels together
    are too many, levels may lie ``wide``, and what is to be covered occurs in the images, those are
    left out that cost the least.
    """
    low, high = (round(end / step) for end in ends)
    if high - low < CODES:
        step /= (CODES - 1) // max(1, high - low)
        low, high = (round(end / step) for end in ends)
        spare = CODES - 1 - (high - low)
        first = max(low - spare // 2, ACTIVATION_LEVELS[0]) if low < 0 else 0
        fits = first <= low and high < first + CODES
        code = TensorCode(make_levels(8, first < 0, -first, None), step, None)
        return code if fits else None
    position = torch.round(network.scale_input(images) / step).long().flatten()
    seen = int(position.min()) <= low and high <= int(position.max())
    if not (wide and seen) or low < ACTIVATION_LEVELS[0] or high > ACTIVATION_LEVELS[1]:
        return None
    inside = (position - low).clamp(0, high - low)
    count = torch.bincount(inside, minlength=high - low + 1).numpy()
    levels = thin(np.arange(low, high + 1), count)
    return TensorCode(table_codebook(levels, 8), step, None)


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


def input_error(network: FusedNetwork, images: Tensor, code: TensorCode, centred: bool) -> float:
    """Return the mean squared error of the input in units of the images' channels; ``centred``
    takes out what is constant in a channel."""
    values = network.scale_input(images[:: max(1, images.numel() // SAMPLE)])
    error = (round_values(values, code) - values).double()
    if centred:
        error = error - error.mean((0, 2, 3), keepdim=True)
    each = error.square().mean((0, 2, 3)).numpy()
    return float((each / network.input_scale**2).mean())
