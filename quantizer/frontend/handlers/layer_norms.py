"""Normalizations of channels that are in the last dimension."""

from typing import Any

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Affine, Normalize
from nupes.quantizer.frontend.registry import handles

__all__ = ["layer_norm", "rms_norm"]


@handles("layer_norm", ignores=("cudnn_enable",))
def layer_norm(
    call: Call,
    input: fx.Node,
    normalized_shape: list[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> str:
    """Translate a layer norm over channels."""
    return normalize(call, input, normalized_shape, True, (weight, bias), eps)


@handles("rms_norm")
def rms_norm(
    call: Call,
    input: fx.Node,
    normalized_shape: list[int],
    weight: Any = None,
    eps: float | None = None,
) -> str:
    """Translate a root-mean-square norm over channels; without ``eps`` it is that of float32."""
    given = float(np.finfo(np.float32).eps) if eps is None else eps
    return normalize(call, input, normalized_shape, False, (weight, None), given)


def normalize(
    call: Call,
    input: fx.Node,
    sizes: list[int],
    centered: bool,
    affine: tuple[Any, Any],
    eps: float,
) -> str:
    """Add a normalization and its gain and offset."""
    last, source = call.lays_last(input), call.viewed(input)
    channels = source.shape[2]
    vector = len(full_shape(input)) == 2 and source.shape[:2] == (1, 1)
    if list(sizes) != [channels] or not (vector or last):
        call.refuse(
            f"a norm must be over all {channels} channels, in the last dimension, not over the "
            f"last dimensions {list(sizes)}"
        )
    if eps <= 0:
        call.refuse(f"eps of a norm must be positive, not {eps}")
    op = Normalize(channels, centered, eps)
    name = call.add(op, (source.name,), source.shape, "norm")
    gain = call.vector(affine[0], 1.0, channels, "weight")
    offset = call.vector(affine[1], 0.0, channels, "bias")
    if (gain == 1).all() and not offset.any():
        return name
    return call.add(Affine(gain, offset), (name,), source.shape, "norm", "affine")
