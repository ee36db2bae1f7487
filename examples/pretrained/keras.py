"""TensorFlow conventions in PyTorch: SAME padding, and weights in Keras layouts."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SameConv", "copy_batch_norm", "same_padding"]

KERAS_EPSILON = 1e-3


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding (before, after) of one axis; the odd one is after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv(nn.Module):
    """SAME convolution, batch norm (Keras' epsilon), and ReLU unless told otherwise."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], size: tuple[int, int],
        stride: int = 1, groups: int = 1, norm: bool = True, relu: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pad = (
            *same_padding(size[1], kernel[1], stride),
            *same_padding(size[0], kernel[0], stride),
        )
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs, eps=KERAS_EPSILON) if norm else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output."""
        x = self.norm(self.conv(F.pad(x, self.pad)))
        return F.relu(x) if self.relu else x

    def load(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Take a Keras kernel, HWIO, or HWIM for depthwise convolutions."""
        axes = (2, 3, 0, 1) if self.conv.groups > 1 else (3, 2, 0, 1)
        weight = np.ascontiguousarray(kernel.transpose(axes))
        self.conv.weight.data = torch.from_numpy(weight)
        assert self.conv.bias is not None
        self.conv.bias.data = torch.from_numpy(bias.copy())


def copy_batch_norm(norm: nn.Module, tensors: dict[str, np.ndarray], name: str) -> None:
    """Take a Keras batch normalization's parameters and statistics."""
    assert isinstance(norm, nn.BatchNorm2d)
    pairs = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    for ours, theirs in pairs.items():
        getattr(norm, ours).data = torch.from_numpy(tensors[f"{name}.{theirs}"].copy())
