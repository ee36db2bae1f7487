"""Float evaluation of stages in torch, on maps (b, c, h, w)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.operators import MaxPool, Padding, Select
from nupes.quantizer.fuse import Stage
from nupes.quantizer.graph import Convolution, Pool

__all__ = ["apply_function", "apply_operator", "input_moments"]

MOMENT_ROWS = 8192
"""Least number of outputs from which the input moments of a layer are taken, or 4 per input."""

MOMENT_IMAGES = 16
"""Least number of images that they come from; a quarter of the pixels of each at most."""

DAMPING = 1e-4
"""Share of the mean moment that is added to each input's own."""

FULL_MOMENTS = 1200
"""Largest kernel (taps times channels) with full moments; above it, their diagonal."""


def pad_map(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Pad a map with (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def apply_operator(stage: Stage, x: Tensor, weight: np.ndarray | None = None) -> Tensor:
    """Return ``gain * op(x)`` in float32, without the bias; ``weight`` may be a replacement."""
    op = stage.op
    if isinstance(op, Convolution):
        kernel = torch.from_numpy(np.asarray(op.weight if weight is None else weight, np.float32))
        padded = pad_map(x, op.padding)
        return F.conv2d(padded, kernel, None, op.stride, 0, op.dilation, op.groups)
    if isinstance(op, MaxPool):
        padded = pad_map(x, op.padding, -torch.inf)
        return F.max_pool2d(padded, op.kernel, op.stride, 0, op.dilation)
    gain = column(stage.gain)
    if isinstance(op, Pool):
        padded = pad_map(x, op.op.padding)
        return F.avg_pool2d(padded, op.op.kernel, op.op.stride, divisor_override=1) * gain
    return select(op, x) * gain


def select(op: Select, x: Tensor) -> Tensor:
    """Return the selected channels and pixels; channels that do not exist are 0."""
    x = x[:, :, :: op.stride[0], :: op.stride[1]]
    behind = op.channels - op.offset - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, op.offset, behind))


def column(values: np.ndarray) -> Tensor:
    """Return per-channel values as a float32 tensor that broadcasts over maps."""
    return torch.from_numpy(np.asarray(values, np.float32)).reshape(1, -1, 1, 1)


def apply_function(stage: Stage, y: Tensor) -> Tensor:
    """Return the stage's function of its pre-activation."""
    return stage.function.apply(y)


def input_moments(op: Convolution, x: Tensor) -> np.ndarray:
    """Return the mean outer product of what each output reads, (g, k, k) float64, or its diagonal
    (g, k) for large kernels; k counts (channel, tap) as in the weights."""
    _, per_group, kh, kw = op.weight.shape
    # In units of the largest input: the choice of weights does not depend on the unit.
    padded = pad_map(x / x.abs().max().clamp_min(torch.finfo(x.dtype).tiny), op.padding)
    area = [
        (padded.shape[2 + axis] - op.dilation[axis] * ((kh, kw)[axis] - 1) - 1) // op.stride[axis]
        + 1
        for axis in (0, 1)
    ]
    size = per_group * kh * kw
    full = size <= FULL_MOMENTS
    wanted = max(MOMENT_ROWS, 4 * size)
    images = min(len(x), max(MOMENT_IMAGES, -(-4 * wanted // (area[0] * area[1]))))
    picks = torch.linspace(0, len(x) - 1, images).long()
    pixels = min(area[0] * area[1], -(-wanted // images))
    total = torch.zeros((op.groups, size, size) if full else (op.groups, size), dtype=torch.float64)
    generator, rows = torch.Generator().manual_seed(0), len(picks) * pixels
    for chunk in picks.split(max(1, (1 << 23) // (area[0] * area[1] * size * op.groups))):
        patches = F.unfold(padded[chunk], (kh, kw), op.dilation, 0, op.stride)
        chosen = torch.randperm(area[0] * area[1], generator=generator)[:pixels]
        columns = patches[:, :, chosen].reshape(len(chunk), op.groups, size, pixels)
        columns = columns.permute(1, 2, 0, 3).reshape(op.groups, size, -1)
        if full:
            total += (columns @ columns.transpose(1, 2)).double()
        else:
            total += columns.double().square().sum(2)
    moments = (total / rows).numpy()
    diagonal = np.einsum("gkk->gk", moments) if full else moments
    # Inputs that the calibration never moved still count a little.
    diagonal += DAMPING * diagonal.mean() or 1.0
    return moments
