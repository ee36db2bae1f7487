"""Float evaluation of stages in torch, on maps (b, c, h, w)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nupes.model.operators import MaxPool, Padding, Select
from nupes.quantizer.frontend.graph import Convolution, Pool
from nupes.quantizer.stages.fuser import Stage

__all__ = ["apply_function", "apply_operator", "column", "pad_map"]


def pad_map(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """Pad a map with (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def apply_operator(stage: Stage, x: Tensor, weight: np.ndarray | None = None) -> Tensor:
    """Return ``gain * op(x)`` in float32, without the bias; ``weight`` may be a replacement."""
    op = stage.op
    if isinstance(op, Convolution):
        real = op.weight if weight is None else weight
        kernel = torch.from_numpy(np.asarray(real, np.float32)).to(x.device)
        padded = pad_map(x, op.padding)
        return F.conv2d(padded, kernel, None, op.stride, 0, op.dilation, op.groups)
    if isinstance(op, MaxPool):
        padded = pad_map(x, op.padding, -torch.inf)
        return F.max_pool2d(padded, op.kernel, op.stride, 0, op.dilation)
    gain = column(stage.gain, x.device)
    if isinstance(op, Pool):
        padded = pad_map(x, op.op.padding)
        return F.avg_pool2d(padded, op.op.kernel, op.op.stride, divisor_override=1) * gain
    return select(op, x) * gain


def select(op: Select, x: Tensor) -> Tensor:
    """Return the selected channels and pixels; channels that do not exist are 0."""
    x = x[:, :, :: op.stride[0], :: op.stride[1]]
    behind = op.channels - op.offset - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, op.offset, behind))


def column(values: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Return per-channel values as a float32 tensor that broadcasts over maps."""
    return torch.from_numpy(np.asarray(values, np.float32)).reshape(1, -1, 1, 1).to(device)


def apply_function(stage: Stage, y: Tensor) -> Tensor:
    """Return the stage's function of its pre-activation."""
    return stage.function.apply(y)
