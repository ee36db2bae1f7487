"""Second moments of what a layer reads: all that a linear layer's output error depends on.

For outputs ``W x`` in float and ``V q`` in the quantized network, with ``x`` and ``q`` centred (a
bias takes up the means), the mean squared error is

    E |W x - V q|^2 = tr(W F W') - 2 tr(W C V') + tr(V G V'),   G = E q q',  C = E x q',  F = E x x'

which is least at ``V = W C G^-1``: rounding the weights to codes for the error ``(V - W C G^-1) G
(V - W C G^-1)'`` makes up for the errors of the layers before. Means may be weighted: an output
that matters more to the network counts more. (The bias takes up the plain mean of what is left.)
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.quantizer.stages.operators import Convolution, pad_map

__all__ = ["Moments", "compensate", "input_moments"]

ROWS = 1 << 15
"""Least number of outputs from which the moments are taken, or 16 per input."""

IMAGES = 16
"""Least number of images that they come from; a quarter of the pixels of each at most."""

LEAST = 0.05
"""Least weight of an output, relative to the mean."""

DAMPING = 1e-4
"""Share of the mean moment that is added to each input's own."""

RIDGE = 0.02
"""Least share of the mean moment that holds compensated weights near the float ones; it is the
inputs over the samples where these are few, so that noise is not compensated."""

FULL = 1200
"""Largest kernel (taps times channels) with full moments; above it, their diagonal."""


@dataclass(frozen=True, eq=False)
class Moments:
    """``gram`` (g, k, k) float64 of the quantized inputs of g groups, ``cross`` (g, k, k) of float
    and quantized ones; for large kernels both are diagonals (g, k). k counts (channel, tap) as in
    the weights. ``samples`` is the number of outputs that they come from."""

    gram: np.ndarray
    cross: np.ndarray
    samples: int


def input_moments(
    op: Convolution, exact: Tensor, rounded: Tensor, importance: Tensor | None = None
) -> Moments:
    """Return the moments of a sample of what each output of a convolution reads, from its float and
    its quantized input (b, c, h, w); ``importance`` (b, g, oh, ow) weighs the outputs of each
    group."""
    _, per_group, kh, kw = op.weight.shape
    # In units of the largest input: the choice of weights does not depend on the unit.
    unit = rounded.abs().max().clamp_min(torch.finfo(rounded.dtype).tiny)
    maps = [pad_map(x / unit, op.padding) for x in (exact, rounded)]
    # Products of centred values lose nothing where channels hardly vary around a large mean.
    maps = [x - x.mean((0, 2, 3), keepdim=True) for x in maps]
    area = [
        (maps[0].shape[2 + axis] - op.dilation[axis] * ((kh, kw)[axis] - 1) - 1) // op.stride[axis]
        + 1
        for axis in (0, 1)
    ]
    size = per_group * kh * kw
    full = size <= FULL
    wanted = max(ROWS, 16 * size)
    images = min(len(exact), max(IMAGES, -(-4 * wanted // (area[0] * area[1]))))
    picks = torch.linspace(0, len(exact) - 1, images).long()
    pixels = min(area[0] * area[1], -(-wanted // images))
    rows = len(picks) * pixels
    shape = (op.groups, size, size) if full else (op.groups, size)
    gram, cross = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    means = torch.zeros((2, op.groups, size), dtype=torch.float64)
    total = torch.zeros(op.groups, dtype=torch.float64)
    roots = None if importance is None else weigh_outputs(importance).sqrt().flatten(2)
    generator = torch.Generator().manual_seed(0)
    for chunk in picks.split(max(1, (1 << 23) // (area[0] * area[1] * size * op.groups))):
        chosen = torch.randperm(area[0] * area[1], generator=generator)[:pixels]
        root = torch.ones(op.groups, 1, len(chunk) * pixels)
        if roots is not None:
            root = roots[chunk][:, :, chosen].transpose(0, 1).reshape(root.shape)
        total += root.double().square().sum((1, 2))
        columns = []
        for index, values in enumerate(maps):
            patches = F.unfold(values[chunk], (kh, kw), op.dilation, 0, op.stride)[:, :, chosen]
            patches = patches.reshape(len(chunk), op.groups, size, pixels)
            columns.append(patches.permute(1, 2, 0, 3).reshape(op.groups, size, -1) * root)
            means[index] += (columns[-1].double() * root).sum(2)
        x, q = columns
        if full:
            gram += (q @ q.transpose(1, 2)).double()
            cross += (x @ q.transpose(1, 2)).double()
        else:
            gram += q.double().square().sum(2)
            cross += (x * q).double().sum(2)
    means /= total[:, None]
    if full:
        outer = means[:, :, :, None] * means[1, :, None, :]
        gram = gram / total[:, None, None] - outer[1]
        cross = cross / total[:, None, None] - outer[0]
    else:
        gram = gram / total[:, None] - means[1].square()
        cross = cross / total[:, None] - means[0] * means[1]
    moments = Moments(gram.numpy(), cross.numpy(), rows)
    diagonal = np.einsum("gkk->gk", moments.gram) if full else moments.gram
    np.maximum(diagonal, 0, out=diagonal)
    # Inputs that the calibration never moved still count a little.
    added = DAMPING * diagonal.mean() or 1.0
    diagonal += added
    if full:
        np.einsum("gkk->gk", moments.cross)[:] += added
    else:
        moments.cross[:] += added
    return moments


def weigh_outputs(importance: Tensor) -> Tensor:
    """Return the weights of outputs (b, g, oh, ow): their importance relative to the group's mean,
    which is 1, and not near 0 for any; equal ones where nothing is important."""
    mean = importance.mean((0, 2, 3), keepdim=True)
    weights = importance / torch.where(mean > 0, mean, 1)
    return torch.where(mean > 0, weights, 1).clamp_min(LEAST)


def compensate(weight: np.ndarray, moments: Moments) -> np.ndarray:
    """Return the real weights (g, n, k) that best reproduce the float outputs from quantized
    inputs: ``W (C + r I) (G + r I)^-1``, r a share of the mean moment."""
    gram, cross = moments.gram, moments.cross
    share = max(RIDGE, gram.shape[-1] / moments.samples)
    if gram.ndim == 2:
        ridge = share * gram.mean()
        return weight * ((cross + ridge) / (gram + ridge))[:, None]
    size = gram.shape[-1]
    ridge = share * np.einsum("gkk->g", gram)[:, None, None] / size * np.eye(size)
    solved = np.linalg.solve(gram + ridge, np.swapaxes(cross + ridge, 1, 2))
    return weight @ np.swapaxes(solved, 1, 2)
