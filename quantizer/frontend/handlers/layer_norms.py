"""Normalizations of channels that are in the last dimension."""

from typing import Any

import numpy as np
from torch import fx

from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Affine, Node, Normalize
from nupes.quantizer.frontend.handlers.group_norms import unit_pixels
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.rows_of_channels import find_rows

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
    if eps <= 0:
        call.refuse(f"eps of a norm must be positive, not {eps}")
    rows = find_rows(call, input, len(full_shape(input)) - 2)
    if rows is not None and list(sizes) == [rows.groups.shape[1]]:
        made = [add_norm(call, node, centered, affine, eps, part) for node, part in rows.take(call)]
        return rows.join(call, made)
    last, source = call.lays_last(input), call.viewed(input)
    channels = source.shape[2]
    vector = len(full_shape(input)) == 2 and source.shape[:2] == (1, 1)
    if list(sizes) != [channels] or not (vector or last):
        call.refuse(
            f"a norm must be over all {channels} channels, in the last dimension, not over the "
            f"last dimensions {list(sizes)}"
        )
    return add_norm(call, source, centered, affine, eps)


def add_norm(
    call: Call, source: Node, centered: bool, affine: tuple[Any, Any], eps: float, part: str = ""
) -> str:
    """Add the normalization of a node's channels, and its gain and offset."""
    channels = source.shape[2]
    op = Normalize(channels, centered, eps)
    name = call.add(op, (source.name,), source.shape, "norm", part)
    gain = call.vector(affine[0], 1.0, channels, "weight")
    offset = call.vector(affine[1], 0.0, channels, "bias")
    if (gain == 1).all() and not offset.any():
        return name
    part = f"{part}.affine" if part else "affine"
    return call.add(Affine(gain, offset), (name,), source.shape, "norm", part)


@handles("unit_rows")
def unit_rows(call: Call, input: fx.Node, dim: int, eps: float) -> str:
    """Translate rows of length 1: of channels, or of all pixels of each channel."""
    axis = len(full_shape(input)) - 1 + dim
    rows = find_rows(call, input, axis)
    if rows is None:
        return unit_pixels(call, input, axis, eps)
    made, size = [], rows.groups.shape[1]
    for node, part in rows.take(call):
        op = Normalize(size, False, eps**2 / size)
        name = call.add(op, (node.name,), node.shape, "norm", part)
        short = Affine(np.full(size, size**-0.5), np.zeros(size))
        part = f"{part}.length".lstrip(".")
        made.append(call.add(short, (name,), node.shape, "norm", part))
    return rows.join(call, made)
