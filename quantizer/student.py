"""The quantized network as a differentiable one: soft weight codes, activations rounded to levels.

A position in code space ``e`` stands for a level: whole positions are codes, between two codes lies
the straight line between their levels. Differentiable soft quantization (NUPES) draws positions to
whole ones as ``beta`` grows:

    dsq(e) = tanh(beta * (e - 1/2 - floor(e))) / (2 * tanh(beta / 2)) + floor(e) + 1/2

``beta -> 0`` is the identity, so training starts at the real weights; ``beta -> inf`` rounds, so it
ends at codes. A position may walk over the whole code space.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nupes.model.codebook import Codebook, make_codebook
from nupes.model.operators import MaxPool
from nupes.quantizer.activations import TensorCode, make_levels
from nupes.quantizer.choices import Choices
from nupes.quantizer.evaluate import apply_function, apply_operator, column, pad_map
from nupes.quantizer.fuse import FusedNetwork, Stage
from nupes.quantizer.graph import Convolution

__all__ = ["SoftActivation", "SoftWeight", "Student", "soft_quantize"]

EXPONENT_RANGE = (0.3, 1.5)
"""Bounds of learned exponents: below, levels near zero merge; above, nothing is gained."""

EDGE = 0.45
"""How far from its code a position may start, at most."""


def soft_quantize(position: Tensor, beta: float) -> Tensor:
    """Return ``dsq_beta`` of positions; exact at whole positions for every ``beta``."""
    below = position.detach().floor()
    fraction = position - below - 0.5
    return torch.tanh(beta * fraction) / (2 * math.tanh(beta / 2)) + below + 0.5


class UnitLevels(nn.Module):
    """The levels of a codebook over their largest magnitude, as a function of the exponent.

    ``index`` counts codes from the zero level (mid-rise: halves); power levels are ``sign(index) *
    |index / largest index| ** (1 / a)``. Other codebooks are constant tables.
    """

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
            self.index = torch.tensor(index, dtype=torch.float32)
        else:
            self.constant = torch.tensor(levels / self.top, dtype=torch.float32)

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
    below = int(np.searchsorted(codebook.levels, 0))
    return np.arange(-below, 2**bits - below)


def with_exponent(codebook: Codebook, exponent: float) -> Codebook:
    """Return the codebook of the same kind with another exponent."""
    if codebook.family == "table":
        below = int(np.searchsorted(codebook.levels, 0))
        return make_levels(codebook.bits, True, below, exponent)
    return make_codebook(codebook.family, codebook.bits, codebook.signed, codebook.lmax, exponent)


class SoftWeight(nn.Module):
    """Weights (n, c // groups, kh, kw) as positions in code space, one scale per channel.

    It starts at the real weights, but no further than half a code from the codes that it is given,
    so that rounding the start gives these codes.
    """

    def __init__(
        self,
        weight: np.ndarray,
        codebook: Codebook,
        codes: np.ndarray,
        scale: np.ndarray,
        learn_exponent: bool,
    ) -> None:
        super().__init__()
        self.levels = UnitLevels(codebook, learn_exponent)
        scale = np.where(scale > 0, scale, 1.0) * self.levels.top
        self.log_scale = nn.Parameter(
            torch.tensor(np.log(scale), dtype=torch.float32).reshape(-1, 1, 1, 1)
        )
        levels = self.levels().detach().numpy().astype(np.float64)
        target = codebook.levels[codes] / self.levels.top
        code = np.abs(target[..., None] - levels).argmin(-1)
        real = np.interp(weight / scale.reshape(-1, 1, 1, 1), levels, np.arange(len(levels)))
        start = np.clip(real, code - EDGE, code + EDGE).clip(0, len(levels) - 1)
        self.position = nn.Parameter(torch.tensor(start, dtype=torch.float32))
        self.nearest = torch.from_numpy(np.rint(real))

    def forward(self, beta: float | None) -> Tensor:
        """Return the soft weights; with ``beta=None`` those of the rounded positions."""
        levels = self.levels()
        with torch.no_grad():
            self.position.clamp_(0, len(levels) - 1)
        if beta is None:
            hard = torch.round(levels * self.levels.top) / self.levels.top
            value = hard[self.position.round().long()]
        else:
            if beta < 0:
                soft = self.position + (self.position.round() - self.position).detach()
            else:
                soft = soft_quantize(self.position, beta)
            below = self.position.detach().floor().clamp(max=len(levels) - 2)
            index = below.long()
            value = torch.lerp(levels[index], levels[index + 1], soft - below)
        return value * self.log_scale.exp()


class RoundToLevels(torch.autograd.Function):
    """Round to the nearest level; gradients pass straight through inside the range.

    With ``q`` the rounded value: ``dq/dx = 1`` inside the range and 0 beyond; ``dq/ds = (q - x) /
    s`` inside and ``q / s`` beyond (LSQ, Esser et al., arXiv 1902.08153). Levels that move with the
    exponent at the rates ``r`` carry what lies between two of them along in proportion, so that
    ``dq/da = (q - x) (r[k+1] - r[k]) / (L[k+1] - L[k])``: unbiased wherever x is evenly spread.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, exponent: Tensor | None, unit: Tensor) -> Tensor:
        levels = unit * scale
        middle = (levels[1:] + levels[:-1]) / 2
        code = torch.bucketize(x.contiguous(), middle, out_int32=True, right=True)
        ctx.save_for_backward(x, code, levels, scale, exponent)
        return levels[code]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, code, levels, scale, exponent = ctx.saved_tensors
        rounded = levels[code]
        inside = (x >= levels[0]) & (x <= levels[-1])
        passed = grad * inside
        slope = ((grad * rounded).sum() - (passed * x).sum()) / scale
        bend = None
        if exponent is not None:
            rate = -torch.xlogy(levels, (levels.abs() / scale).clamp_min(1e-9)) / exponent
            ratio = rate.diff() / levels.diff()
            segment = (code - (x < rounded).int()).clamp(0, len(ratio) - 1)
            bend = (passed * (rounded - x) * ratio[segment]).sum()
        return passed, slope, bend, None


class SoftActivation(nn.Module):
    """The code of a stored tensor, with scale and exponent to learn."""

    def __init__(self, code: TensorCode, learn_exponent: bool) -> None:
        super().__init__()
        self.levels = UnitLevels(code.codebook, learn_exponent)
        scale = math.log(code.scale * self.levels.top)
        self.log_scale = nn.Parameter(torch.tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the levels."""
        with torch.no_grad():
            unit = torch.round(self.levels() * self.levels.top) / self.levels.top
        return RoundToLevels.apply(x, self.log_scale.exp(), self.levels.exponent, unit)

    def harden(self) -> TensorCode:
        """Return the code learned."""
        codebook = self.levels.harden()
        scale = math.exp(float(self.log_scale.detach())) / np.abs(codebook.levels).max()
        return TensorCode(codebook, float(scale), codebook.exponent)


class Student(nn.Module):
    """Stages with everything that can be learned about them; what is learned is asked for by
    ``requires_grad``."""

    def __init__(
        self, network: FusedNetwork, choices: Choices, learn_exponents: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.weights, self.tensors = nn.ModuleDict(), nn.ModuleDict()
        self.bias = nn.ParameterDict()
        for stage in network.stages:
            name = key(stage.name)
            if isinstance(stage.op, Convolution):
                code = choices.weights[stage.name]
                self.weights[name] = SoftWeight(
                    stage.op.weight, code.codebook, code.codes, code.scale, learn_exponents
                )
            if stage.name in choices.bias:
                self.bias[name] = nn.Parameter(column(choices.bias[stage.name]).flatten())
            if stage.name in choices.tensors and not copies(stage):
                self.tensors[name] = SoftActivation(choices.tensors[stage.name], learn_exponents)

    def run(
        self, stages: Sequence[Stage], live: dict[str, Tensor], beta: float | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run stages on quantized maps by name; return all maps, and what each stage gives before
        it is rounded."""
        live, real = dict(live), {}
        for stage in stages:
            name, x = key(stage.name), live[stage.source]
            if isinstance(stage.op, Convolution):
                op, weight = stage.op, self.weights[name](beta)
                x = pad_map(x, op.padding)
                y = F.conv2d(x, weight, self.bias[name], op.stride, 0, op.dilation, op.groups)
            else:
                y = apply_operator(stage, x)
                if name in self.bias:
                    y = y + self.bias[name].reshape(1, -1, 1, 1)
            if stage.residual is not None:
                y = y + live[stage.residual]
            z = y if isinstance(stage.op, MaxPool) else apply_function(stage, y)
            real[stage.name] = z
            live[stage.name] = self.tensors[name](z) if name in self.tensors else z
        return live, real


def key(name: str) -> str:
    """Return a stage's name as torch allows it in a path."""
    return name.replace(".", "/")


def copies(stage: Stage) -> bool:
    """Whether a stage stores codes of its source."""
    return stage.copies_codes
