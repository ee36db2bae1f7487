"""Second moments of what a layer reads: all that a linear layer's output error depends on.

For outputs ``W x`` in float and ``V q`` in the quantized network, with ``x`` and ``q`` centred (a
bias takes up the means), the mean squared error is

    E |W x - V q|^2 = tr(W F W') - 2 tr(W C V') + tr(V G V'),   G = E q q',  C = E x q',  F = E x x'

which is least at ``V = W C G^-1``: rounding the weights to codes for the error ``(V - W C G^-1) G
(V - W C G^-1)'`` makes up for the errors of the layers before. Means may be weighted: an output
that matters more to the network counts more. (The bias takes up the plain mean of what is left.)

Moments of few images fit those better than others. So they are kept in parts, each of images of its
own, and what is fitted to all parts but one is judged on that one.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.quantizer.stages.operators import Convolution

__all__ = ["FOLDS", "LEAST", "PRECISION", "Moments", "input_moments", "weigh_outputs"]

ROWS = 1 << 15
"""Least number of outputs from which the moments are taken, or 16 per input."""

IMAGES = 16
"""Least number of images that they come from; a quarter of the pixels of each at most."""

LEAST = 1e-3
"""Least weight of an output, relative to the mean."""

DAMPING = 1e-4
"""Share of the mean moment that is added to each input's own."""

FOLDS = 4
"""Parts of the images, of which each judges what is fitted to the others."""

PRECISION = 16 * float(np.finfo(np.float32).eps)
"""Relative error of sums of float32 values."""

FULL = 1200
"""Largest kernel (taps times channels) with full moments; above it, their diagonal."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over outputs, of g groups with k inputs each, float64: of the weights (g,); of
    the float and the quantized inputs, ``x`` and ``q`` (g, k); and of the products ``gram`` of the
    latter and ``cross`` of both (g, k, k), or for large kernels their diagonals (g, k)."""

    total: np.ndarray
    x: np.ndarray
    q: np.ndarray
    gram: np.ndarray
    cross: np.ndarray

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums over both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(a + b for a, b in pairs))

    def about(self, x: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean products ``gram`` and ``cross`` of inputs from which ``x`` and ``q`` (g,
        k) are taken."""
        total = self.total[:, None]
        mean_x, mean_q = self.x / total, self.q / total

        def outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return a * b if self.gram.ndim == 2 else a[:, :, None] * b[:, None]

        total = total if self.gram.ndim == 2 else total[..., None]
        gram = self.gram / total - outer(mean_q, mean_q) + outer(mean_q - q, mean_q - q)
        cross = self.cross / total - outer(mean_x, mean_q) + outer(mean_x - x, mean_q - q)
        return gram, cross

    def centred(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the covariances ``gram`` and ``cross``."""
        total = self.total[:, None]
        return self.about(self.x / total, self.q / total)


@dataclass(frozen=True, eq=False)
class Moments:
    """``gram`` (g, k, k) float64 of the quantized inputs of g groups, ``cross`` (g, k, k) of float
    and quantized ones; for large kernels both are diagonals (g, k). k counts (channel, tap) as in
    the weights. ``samples`` is the number of outputs that they come from, ``parts`` the sums over
    those of some images each."""

    gram: np.ndarray
    cross: np.ndarray
    samples: int
    parts: tuple[Sums, ...] = ()

    def split(self, index: int) -> tuple[np.ndarray, ...]:
        """Return ``gram`` and ``cross`` of all parts but one, and this one's about the means of the
        others."""
        rest = reduce(Sums.__add__, self.parts[:index] + self.parts[index + 1 :])
        total = rest.total[:, None]
        return *rest.centred(), *self.parts[index].about(rest.x / total, rest.q / total)


def input_moments(
    op: Convolution, exact: Tensor, rounded: Tensor, importance: Tensor | None = None
) -> Moments:
    """Return the moments of a sample of what each output of a convolution reads, from its float and
    its quantized input (b, c, h, w); ``importance`` (b, g, oh, ow) weighs the outputs of each
    group."""
    _, per_group, kh, kw = op.kernel.shape
    # In units of the largest input: the choice of weights does not depend on the unit.
    unit = max(float(x.abs().max()) for x in (exact, rounded)) or 1.0
    maps = [op.read(x / unit) for x in (exact, rounded)]
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
    folds = min(FOLDS, len(exact))
    images = min(len(exact), max(IMAGES, -(-4 * wanted // (area[0] * area[1]))))
    # Whatever is sampled, an image is in the same part for every layer.
    parted = [torch.arange(first, len(exact), folds) for first in range(folds)]
    picks = [spread(part, -(-images // folds)) for part in parted]
    images = sum(map(len, picks))
    pixels = min(area[0] * area[1], -(-wanted // images))
    roots = None if importance is None else weigh_outputs(importance).sqrt().flatten(2)
    generator = torch.Generator().manual_seed(0)

    def add(chunk: Tensor) -> Sums:
        """Return the sums over some pixels of some images."""
        chosen = torch.randperm(area[0] * area[1], generator=generator)[:pixels]
        root = torch.ones(op.groups, 1, len(chunk) * pixels)
        if roots is not None:
            root = roots[chunk][:, :, chosen].transpose(0, 1).reshape(root.shape)
        columns = []
        for values in maps:
            patches = F.unfold(values[chunk], (kh, kw), op.dilation, 0, op.stride)[:, :, chosen]
            patches = patches.reshape(len(chunk), op.groups, size, pixels)
            columns.append(patches.permute(1, 2, 0, 3).reshape(op.groups, size, -1) * root)
        x, q = columns
        products = [a @ q.transpose(1, 2) if full else (a * q).sum(2) for a in (q, x)]
        sums = [root.double().square().sum((1, 2)), *((a.double() * root).sum(2) for a in columns)]
        return Sums(*(value.double().numpy() for value in (*sums, *products)))

    most = max(1, (1 << 23) // (area[0] * area[1] * size * op.groups))
    parts = tuple(reduce(Sums.__add__, map(add, part.split(most))) for part in picks)
    total = reduce(Sums.__add__, parts)
    gram, cross = total.centred()
    diagonal = np.einsum("gkk->gk", gram) if full else gram
    np.maximum(diagonal, 0, out=diagonal)
    # Inputs that the calibration never moved still count a little, and what rounding to float32
    # leaves of inputs that do not vary does not count as if they did.
    raw = total.gram / (total.total[:, None, None] if full else total.total[:, None])
    power = (np.einsum("gkk->gk", raw) if full else raw).mean()
    added = max(DAMPING * diagonal.mean(), PRECISION * power, PRECISION**2)
    diagonal += added
    if full:
        np.einsum("gkk->gk", cross)[:] += added
    else:
        cross += added
    return Moments(gram, cross, images * pixels, parts)


def spread(numbers: Tensor, count: int) -> Tensor:
    """Return so many of some numbers, or all, evenly spread."""
    return numbers[torch.linspace(0, len(numbers) - 1, min(count, len(numbers))).long()]


def weigh_outputs(importance: Tensor) -> Tensor:
    """Return the weights of outputs (b, g, oh, ow): their importance relative to the group's mean,
    which is 1, and not near 0 for any; equal ones where nothing is important."""
    mean = importance.mean((0, 2, 3), keepdim=True)
    weights = importance / torch.where(mean > 0, mean, 1)
    return torch.where(mean > 0, weights, 1).clamp_min(LEAST)
