"""Codes that can be learned: soft weight codes, and tensors rounded to levels that move.

A position in code space ``e`` stands for a level: whole positions are codes, between two codes lies
the straight line between their levels. Differentiable soft quantization (NUPES) draws positions to
whole ones as ``beta`` grows:

    dsq(e) = tanh(beta * (e - 1/2 - floor(e))) / (2 * tanh(beta / 2)) + floor(e) + 1/2

``beta -> 0`` is the identity, ``beta -> inf`` rounds: learning starts near the real weights and
ends at codes. A position may walk over the whole code space.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nupes.model.codebook import Codebook, make_codebook
from nupes.quantizer.codes.candidates import make_levels
from nupes.quantizer.codes.decisions import TensorCode, WeightCode
from nupes.quantizer.codes.rounding import cell_levels, find_cells, look_up

__all__ = [
    "AdaRoundWeight",
    "SoftActivation",
    "SoftWeight",
    "StraightWeight",
    "sharpness",
    "soft_quantize",
]

BETAS = (1.0, 50.0)
"""First and last sharpness of soft rounding while learning."""

EXPONENT_RANGE = (0.2, 1.5)
"""Bounds of learned exponents, as of those that are searched."""


def soft_quantize(position: Tensor, beta: float) -> Tensor:
    """Return ``dsq_beta`` of positions; exact at whole positions for every ``beta``."""
    below = position.detach().floor()
    fraction = position - below - 0.5
    return torch.tanh(beta * fraction) / (2 * math.tanh(beta / 2)) + below + 0.5


def sharpness(done: float) -> float:
    """Return beta after a share of the steps: it grows exponentially."""
    return BETAS[0] * (BETAS[1] / BETAS[0]) ** done


def straight_through(position: Tensor) -> Tensor:
    """Return whole positions; gradients pass as if they had not been rounded."""
    return position + (position.round() - position).detach()


class UnitLevels(nn.Module):
    """The levels of a codebook over their largest magnitude, as a function of the exponent.

    ``index`` counts codes from the zero level (mid-rise: halves); power levels are ``sign(index) *
    |index / largest index| ** (1 / a)``. Other codebooks are constant tables.
    """

    index: Tensor
    constant: Tensor

    def __init__(self, codebook: Codebook, learn: bool) -> None:
        super().__init__()
        levels = codebook.levels.astype(np.float64)
        self.top = float(np.abs(levels).max())
        self.codebook = codebook
        exponent = codebook.exponent
        self.exponent = None
        index = code_index(codebook)
        if exponent is not None and learn and index is not None:
            self.exponent = nn.Parameter(torch.tensor(exponent, dtype=torch.float32))
            self.register_buffer("index", torch.tensor(index, dtype=torch.float32))
        else:
            self.register_buffer("constant", torch.tensor(levels / self.top).float())

    def __len__(self) -> int:
        return len(self.constant if self.exponent is None else self.index)

    def forward(self) -> Tensor:
        """Return the levels (K,) in -1..1."""
        if self.exponent is None:
            return self.constant
        exponent = self.exponent.clamp(*EXPONENT_RANGE)
        ratio = self.index.abs() / self.index.abs().max()
        # The power of 0 is 0 for every exponent, and so is its gradient.
        power = torch.where(ratio > 0, ratio.clamp_min(1e-9) ** (1 / exponent), ratio)
        return self.index.sign() * power

    def harden(self) -> Codebook:
        """Return the codebook of the exponent learned."""
        if self.exponent is None:
            return self.codebook
        low, high = EXPONENT_RANGE
        exponent = round(min(max(float(self.exponent.detach()), low), high), 4)
        return with_exponent(self.codebook, exponent)


def code_index(codebook: Codebook) -> np.ndarray | None:
    """Return the index that each level's power is taken of, merged levels apart; ``None`` where the
    codebook is no power."""
    if codebook.exponent is None:
        return None
    bits = codebook.bits
    if codebook.family == "power":
        steps = 2 ** (bits - 1) - 1 if codebook.signed else 2**bits - 1
        return np.arange(-steps if codebook.signed else 0, steps + 1)
    if codebook.family == "power-midrise":
        half = np.arange(2 ** (bits - 1)) + 0.5
        return np.concatenate([-half[::-1], half])
    below = codes_below_zero(codebook)
    return None if below is None else np.arange(-below, 2**bits - below)


def codes_below_zero(codebook: Codebook) -> int | None:
    """Return how many codes a two-sided power table has below zero, those included that merge."""
    for below in range(1, 2**codebook.bits - 1):
        if make_levels(codebook.bits, True, below, codebook.exponent) == codebook:
            return below
    return None


def with_exponent(codebook: Codebook, exponent: float) -> Codebook:
    """Return the codebook of the same kind with another exponent."""
    below = codes_below_zero(codebook) if codebook.family == "table" else None
    if below is not None:
        return make_levels(codebook.bits, True, below, exponent)
    return make_codebook(codebook.family, codebook.bits, codebook.signed, codebook.lmax, exponent)


class SoftWeight(nn.Module):
    """Weights (n, c // groups, kh, kw) as positions in code space, one scale per channel.

    It starts at the real weights, but no further than ``edge`` from the codes that it is given, so
    that rounding the start gives these codes.
    """

    edge = 0.45
    """How far from its code a position may start."""

    def __init__(self, weight: np.ndarray, code: WeightCode, learn_exponent: bool) -> None:
        super().__init__()
        self.levels = UnitLevels(code.codebook, learn_exponent)
        self.rate = len(self.levels) / 16
        """Learning rate of positions beside that of 4-bit codes: the share of the range counts."""
        self.alive = code.scale > 0
        scale = np.where(self.alive, code.scale, 1.0) * self.levels.top
        self.log_scale = nn.Parameter(
            torch.tensor(np.log(scale), dtype=torch.float32).reshape(-1, 1, 1, 1)
        )
        levels = self.levels().detach().numpy().astype(np.float64)
        target = code.codebook.levels[code.codes] / self.levels.top
        near = np.abs(target[..., None] - levels).argmin(-1)
        real = np.interp(weight / scale.reshape(-1, 1, 1, 1), levels, np.arange(len(levels)))
        start = np.clip(real, near - self.edge, near + self.edge).clip(0, len(levels) - 1)
        self.position = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def codes(self, beta: float | None) -> Tensor:
        """Return positions softly rounded; with ``beta=None`` whole ones, straight through."""
        position = self.position.clamp(0, len(self.levels) - 1)
        return straight_through(position) if beta is None else soft_quantize(position, beta)

    def penalty(self, sharpness: float) -> Tensor:
        """Return what is added to the loss; here nothing."""
        return self.position.new_zeros(())

    def forward(self, beta: float | None) -> Tensor:
        """Return the weights of rounded positions."""
        levels, codes = self.levels(), self.codes(beta)
        below = codes.detach().floor().clamp(max=len(levels) - 2)
        index = below.long()
        value = torch.lerp(levels[index], levels[index + 1], codes - below)
        return value * self.log_scale.exp()

    @torch.no_grad()
    def harden(self) -> WeightCode:
        """Return the codes of the rounded positions, and the codebook of the exponent learned."""
        index = self.codes(None).round().long()
        codebook = self.levels.harden()
        top = np.abs(codebook.levels).max()
        values = self.levels()[index].double().cpu().numpy() * top
        scale = self.log_scale.exp().double().flatten().cpu().numpy() / top
        return WeightCode(codebook, codebook.nearest(values), np.where(self.alive, scale, 0.0))


class StraightWeight(SoftWeight):
    """Weights that are rounded in every step: ``beta`` is not looked at.

    They start nearer to their codes, because those on an edge would flip to and fro.
    """

    edge = 0.2

    def codes(self, beta: float | None) -> Tensor:
        """Return whole positions, straight through."""
        return super().codes(None)


class AdaRoundWeight(SoftWeight):
    """Weights between the codes below and above their start: ``floor + clip(1.2 sigmoid(v) - 0.1,
    0, 1)``, drawn to either by a penalty.

    Source: Nagel et al., Up or Down?, arXiv 2004.10568, equations 23 and 24.
    """

    below: Tensor

    def __init__(self, weight: np.ndarray, code: WeightCode, learn_exponent: bool) -> None:
        super().__init__(weight, code, learn_exponent)
        self.rate = 1.0
        with torch.no_grad():
            below = self.position.floor().clamp(max=len(self.levels) - 2)
            self.register_buffer("below", below)
            share = (self.position - self.below + 0.1) / 1.2
            self.position.copy_(torch.logit(share))

    def share(self) -> Tensor:
        """Return the soft choice between both codes, 0..1."""
        return (1.2 * torch.sigmoid(self.position) - 0.1).clamp(0, 1)

    def codes(self, beta: float | None) -> Tensor:
        """Return the codes below plus the share, or plus the rounded share."""
        share = self.share()
        return self.below + (share.round() if beta is None else share)

    def penalty(self, sharpness: float) -> Tensor:
        """Return ``sum(1 - |2 share - 1| ** sharpness)``."""
        return (1 - (2 * self.share() - 1).abs() ** sharpness).sum()


class RoundToLevels(torch.autograd.Function):
    """Round to the nearest of levels ``l``, in units of the outermost one, times ``scale``;
    gradients pass straight through inside the range.

    With ``q`` the rounded value: ``dq/dx = 1`` inside the range and 0 beyond; ``dq/dscale = (q - x)
    / scale`` inside and ``q / scale`` beyond (LSQ, Esser et al., arXiv 1902.08153); ``dq/dl =
    scale`` for the level that it is. For the squared error against x the last is exact, because x
    rounds to its nearest level. ``levels`` are ``l`` as integers in ``low..high``.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, scale: Tensor, unit: Tensor, levels: Tensor, low: int, high: int
    ) -> Tensor:
        step = scale / max(-low, high)
        nearest = cell_levels(levels, low, high)
        cells = find_cells(x, step, low, high)
        ctx.save_for_backward(x, cells, levels * step, nearest, scale)
        return look_up((levels * step)[nearest], cells)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, cells, levels, nearest, scale = ctx.saved_tensors
        passed = grad.masked_fill((x < levels[0]) | (x > levels[-1]), 0)
        by_cell = grad.new_zeros(len(nearest)).index_add(0, cells.flatten(), grad.flatten())
        by_level = torch.zeros_like(levels).index_add(0, nearest, by_cell)
        slope = (dot(by_level, levels) - dot(passed, x)) / scale
        return passed, slope, by_level * scale, None, None, None


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of products of two tensors of one shape."""
    return torch.dot(a.flatten(), b.flatten())


class SoftActivation(nn.Module):
    """The code of a stored tensor, with scale and exponent to learn."""

    def __init__(self, code: TensorCode, learn_exponent: bool) -> None:
        super().__init__()
        self.levels = UnitLevels(code.codebook, learn_exponent)
        self.signed = bool(code.codebook.levels[0] < 0)
        scale = math.log(code.scale * self.levels.top)
        self.log_scale = nn.Parameter(torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the levels."""
        unit = self.levels()
        levels = torch.round(unit.detach() * self.levels.top)
        top = int(self.levels.top)
        low = -top if self.signed else 0
        return RoundToLevels.apply(x, self.log_scale.exp(), unit, levels, low, top)

    def harden(self) -> TensorCode:
        """Return the code learned."""
        codebook = self.levels.harden()
        scale = math.exp(float(self.log_scale.detach())) / np.abs(codebook.levels).max()
        return TensorCode(codebook, float(scale), codebook.exponent)
