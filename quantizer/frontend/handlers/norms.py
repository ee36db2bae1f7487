"""Batch norms, which become affines, and dropouts, which are nothing in evaluation."""

from typing import Any

import numpy as np
from torch import fx

from nupes.model.errors import InputError
from nupes.quantizer.frontend.call import Call, value_shape
from nupes.quantizer.frontend.graph import Affine
from nupes.quantizer.frontend.registry import handles

__all__ = ["batch_norm", "dropout"]


@handles("batch_norm", ignores=("momentum", "cudnn_enabled"))
@handles("_native_batch_norm_legit_no_training", ignores=("momentum",))
@handles("_native_batch_norm_legit_functional", "_native_batch_norm_legit", ignores=("momentum",))
def batch_norm(
    call: Call,
    input: fx.Node,
    weight: Any,
    bias: Any,
    running_mean: Any = None,
    running_var: Any = None,
    eps: float = 0.0,
    training: bool = False,
) -> str:
    """Translate an inference batch norm to an affine with known output statistics."""
    source = call.source(input)
    channels = value_shape(input)[0]
    if running_mean is None or running_var is None:
        call.refuse(
            "batch norm must have running statistics, not compute them from each batch; train it "
            "with track_running_stats=True"
        )
    if training:
        call.refuse("batch norm must use its running statistics; export in evaluation mode")
    if source.shape[2] != channels:
        call.refuse("batch norm of a flattened map is not supported; put it before the flatten")
    gamma = call.vector(weight, 1.0, channels, "weight")
    beta = call.vector(bias, 0.0, channels, "bias")
    mean = call.vector(running_mean, 0.0, channels, "running mean")
    variance = call.vector(running_var, 1.0, channels, "running variance") + eps
    if variance.min() <= 0:
        raise InputError(f"{call.where}: its running variance must be positive")
    scale = gamma / np.sqrt(variance)
    op = Affine(scale, beta - mean * scale, beta, np.abs(gamma))
    return call.add(op, (source.name,), source.shape, "batch_norm")


@handles(
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "native_dropout",
)
def dropout(call: Call, input: fx.Node, p: float, train: bool | None) -> str:
    """Let a dropout in evaluation mode be the tensor that it reads."""
    if train is not False and p:
        call.refuse(
            "dropout must be off: F.dropout drops values unless it is given "
            "training=self.training, and a program must be exported after eval()"
        )
    return call.view(input, call.places(input))
