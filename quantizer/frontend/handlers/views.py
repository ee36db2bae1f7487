"""Operators that give values of one tensor in another order, shape or number: splits, slices,
permutations, nearest upsampling.

PyTorch evaluates them itself, on the numbers of the values instead of the values.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.call import Call, concrete, full_shape, is_known
from nupes.quantizer.frontend.registry import base_name

__all__ = ["is_view", "translate_view"]

COPIES = {
    *("_unsafe_view", "channel_shuffle", "native_channel_shuffle", "flip", "index", "index_select"),
    *("repeat", "repeat_interleave", "roll", "tile", "unsafe_chunk", "unsafe_split"),
    *("unsafe_split_with_sizes", "upsample_nearest1d", "_upsample_nearest_exact1d"),
    *("upsample_nearest2d", "_upsample_nearest_exact2d", "pixel_shuffle", "pixel_unshuffle"),
}
"""Operators that give values as they are, and that PyTorch does not call views."""

OTHERS = {"alias", "as_strided", "contiguous", "detach", "view_as_complex", "view_as_real"}
"""Views that give a tensor itself, and such as depend on how it lies in memory."""

IMAGE = 2**32
"""Difference of the numbers of two images' values: more than an image has. Numbers are float64,
which some operators ask for, and exact below 2**53."""


def is_view(node: fx.Node) -> bool:
    """Whether an operator gives values of its first operand as they are."""
    name, overload = base_name(node), getattr(node.target, "_overloadname", "")
    view = getattr(node.target, "is_view", False) and overload != "dtype"
    return name in COPIES or (view and name not in OTHERS)


def translate_view(call: Call) -> str:
    """Translate any operator that gives values of one tensor as they are."""
    source = call.node.all_input_nodes[0]
    call.viewed(source)
    if not all(map(is_known, full_shape(call.node))):
        call.refuse("the shape of what it gives must be known; index by numbers, not by a mask")
    batch, places = concrete(full_shape(source)[0]), call.places(source)
    images = torch.arange(batch).reshape(-1, *[1] * places.ndim) * IMAGE

    def operand(value: fx.Node) -> Any:
        if value is source:
            return (images + torch.from_numpy(places)).double().contiguous()
        if value in call.values.constants:
            return call.values.constants[value]
        known = value.meta["val"]
        if isinstance(known, Tensor):  # such as one whose shape is taken on
            return torch.zeros([concrete(size) for size in known.shape])
        return concrete(known)

    args, kwargs = map_arg((call.node.args, call.node.kwargs), operand)
    moved = cast(Callable[..., Any], call.node.target)(*args, **kwargs)
    if isinstance(moved, Tensor):
        return call.view(source, of_one_image(call, moved, batch))
    return call.view(source, [of_one_image(call, part, batch) for part in moved])


def of_one_image(call: Call, moved: Tensor, batch: int) -> np.ndarray:
    """Return the places of the first image; refuse what mixes images."""
    first = moved[:1]
    images = torch.arange(batch).reshape(-1, *[1] * (moved.ndim - 1)) * IMAGE
    if moved.ndim == 0 or len(moved) != batch or not bool((moved == first + images).all()):
        call.refuse("it must leave the batch dimension as it is")
    return first[0].numpy().astype(np.int32)
