"""How far a layer follows the moments of its inputs: as far as images that were not fitted agree.

Weights that are fitted to few images serve others worse than weights that are fitted to none. A
ridge holds them; the layer's output error on the part of the images that is left out of the moments
says how large it must be (cross-validation).
"""

import numpy as np
import torch
from torch import Tensor

from nupes.model.codebook import make_codebook
from nupes.quantizer.search.closest import decode
from nupes.quantizer.search.moments import FOLDS, PRECISION, Moments

__all__ = ["are_usual", "compensate", "dampen", "held_mean"]

RIDGES = 0.005 * 4.0 ** np.arange(7)
"""Shares of the mean moment that may hold compensated weights near the float ones."""

DAMPINGS = (0.0, 1e-3, 1e-2, 1e-1)
"""Shares of the mean moment that may be added to each input's own before weights are rounded."""

TIE = 0.01
"""Relative difference of errors that is the luck of rounding: the least damping serves."""

USUAL, FAR = 0.9, 16.0
"""The share of outputs, by weight, whose errors are the usual ones, and how many times the largest
of their squares an error's is that tells of its own output alone."""

JUDGED = 64
"""Most channels of each group that are compared."""


def held_mean(values: Tensor, weight: Tensor) -> np.ndarray:
    """Return the weighted means (c,) float64 of the channels of maps (b, c, h, w), shrunk by the
    factor in 0..1 for which the means of all parts of the images but one leave the least of that
    one's."""
    parts = min(FOLDS, len(values))
    weighed = values * weight
    sums, totals = (
        torch.stack([x[first::parts].double().sum((0, 2, 3)) for first in range(parts)])
        for x in (weighed, weight)
    )
    mean = sums.sum(0) / totals.sum(0)
    if parts == 1:
        return torch.zeros_like(mean).numpy()
    others = (sums.sum(0) - sums) / (totals.sum(0) - totals)
    power = float(others.square().sum())
    agreed = float((others * sums / totals).sum())
    return (mean * min(max(agreed / power, 0.0), 1.0) if power > 0 else mean).numpy()


def are_usual(errors: Tensor, weight: Tensor) -> Tensor:
    """Return whether the errors of an output (b, 1, h, w) are of the size that those of most others
    have, for errors and weights (b, c, h, w).

    Massive activations (Sun et al., arXiv 2402.17762) make one token's errors thousands of times as
    large as any other's. A norm that follows divides them by the token's size, which weights that
    hold for small errors do not know; in a mean they would move all other tokens.
    """
    power = errors.square().mean(1, keepdim=True)
    ordered, order = power.flatten().sort()
    share = weight.mean(1, keepdim=True).expand_as(power).flatten()[order].double().cumsum(0)
    return power <= FAR * ordered[torch.searchsorted(share, USUAL * share[-1])]


def some_channels(weight: np.ndarray) -> np.ndarray:
    """Return the weights (g, n, k) of ``JUDGED`` channels at most, evenly spread."""
    return weight[:, :: -(-weight.shape[1] // JUDGED)]


def dampen(weight: np.ndarray, moments: Moments, bits: int) -> np.ndarray:
    """Return the moments of the quantized inputs, with the damping for which weights of so many
    bits err least on images that did not tell how to round them."""
    gram = moments.gram
    if gram.ndim == 2:
        return gram  # Weights are rounded one by one.
    rows = some_channels(weight)
    codebook = make_codebook("uniform", bits, signed=True)
    largest = np.abs(rows).max(axis=2)
    scale = np.where(largest > 0, largest, 1.0) / np.abs(codebook.levels).max()
    errors = np.zeros(len(DAMPINGS))
    for part in range(len(moments.parts) if len(moments.parts) > 1 else 0):
        fitted, _, held, _ = moments.split(part)
        order = np.argsort(-np.einsum("gkk->gk", fitted), axis=1)
        for index, share in enumerate(DAMPINGS):
            codes = decode(rows, add_share(fitted, share), codebook, scale, order, 1)
            delta = codebook.levels[codes] * scale[..., None] - rows
            errors[index] += float((delta @ held * delta).sum())
    clear = errors <= (1 + TIE) * errors.min()
    return add_share(gram, DAMPINGS[int(np.argmax(clear))])


def add_share(gram: np.ndarray, share: float) -> np.ndarray:
    """Return moments (g, k, k) with a share of each group's mean added to each input's own."""
    mean = np.einsum("gkk->gk", gram).mean(1)
    return gram + share * np.maximum(mean, 0)[:, None, None] * np.eye(gram.shape[1])


def compensate(weight: np.ndarray, moments: Moments) -> np.ndarray:
    """Return the real weights (g, n, k) that best reproduce the float outputs from quantized
    inputs: ``W (C + r I) (G + r I)^-1``, or W.

    The ridge r, a share of the mean moment, is the one that errs least on the last part of the
    images; W is what it leads to as it grows. No layer is fitted to that part: what earlier layers
    make of images that they were fitted to says nothing of what they make of others.
    """
    if len(moments.parts) < 2:
        return weight
    gram, cross, held_gram, held_cross = moments.split(len(moments.parts) - 1)
    family = Compensated(some_channels(weight), gram, cross)
    errors = [family.error(share, held_gram, held_cross) for share in (*RIDGES, np.inf)]
    best = len(RIDGES) - int(np.argmin(errors[::-1]))
    return weight if best == len(RIDGES) else Compensated(weight, gram, cross).real(RIDGES[best])


class Compensated:
    """Compensated weights by their ridge, from the eigenvectors of ``gram``."""

    def __init__(self, weight: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> None:
        diagonal = gram if gram.ndim == 2 else np.einsum("gkk->gk", gram)
        # Inputs that do not vary have products of the size of rounding, and no ridge may be less.
        self.mean = np.maximum(np.maximum(diagonal, 0).mean(1)[:, None], PRECISION**2)
        self.weight = weight
        if gram.ndim == 2:
            self.values, self.vectors = np.maximum(gram, 0), None
            self.turned, self.moved = weight, weight * cross[:, None]
            return
        values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0)
        self.turned = weight @ self.vectors
        self.moved = weight @ cross @ self.vectors

    def in_basis(self, share: float) -> np.ndarray:
        """Return the weights in the basis of the eigenvectors."""
        if not np.isfinite(share):
            return self.turned
        ridge = share * self.mean
        return (self.moved + ridge[..., None] * self.turned) / (self.values + ridge)[:, None]

    def real(self, share: float) -> np.ndarray:
        """Return the weights."""
        found = self.in_basis(share)
        return found if self.vectors is None else found @ np.swapaxes(self.vectors, 1, 2)

    def error(self, share: float, gram: np.ndarray, cross: np.ndarray) -> float:
        """Return the mean squared output error for other moments, but for the part that is the same
        for all weights."""
        real = self.real(share)
        if gram.ndim == 2:
            products = (real * gram[:, None] - 2 * self.weight * cross[:, None]) * real
        else:
            products = (real @ gram - 2 * self.weight @ cross) * real
        return float(products.sum())
