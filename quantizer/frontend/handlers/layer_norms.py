"""Normalizations of channels that are in the last dimension."""

from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Affine, Concat, Node, Normalize
from nupes.quantizer.frontend.heads import heads_of, show_heads
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
    if eps <= 0:
        call.refuse(f"eps of a norm must be positive, not {eps}")
    heads = heads_of(call, input)
    if heads is not None and list(sizes) == [heads.shape[1]]:
        return normalize_heads(call, input, heads, centered, affine, eps)
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


def normalize_heads(
    call: Call,
    input: fx.Node,
    heads: np.ndarray,
    centered: bool,
    affine: tuple[Any, Any],
    eps: float,
) -> str:
    """Add the normalization of each head of tokens, (heads, t, d) or (t, heads, d), and join them;
    ``heads`` (heads, d) are the channels of a node."""
    source, graph = call.viewed(input), call.values.graph
    made = []
    for number, channels in enumerate(heads):
        shape = (*source.shape[:2], len(channels))
        taken = call.add(Select.of(channels), (source.name,), shape, "norm", f"head_{number}")
        made.append(add_norm(call, graph.nodes[taken], centered, affine, eps, str(number)))
    shape = (*source.shape[:2], heads.size)
    name = call.add(Concat(), tuple(made), shape, "norm")
    show_heads(call, input, graph.nodes[name])
    return name
