"""Operators that give values of one tensor in another order, shape or number: splits, slices,
permutations, nearest upsampling.

PyTorch evaluates them itself, on the numbers of the values instead of the values.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from nupes.quantizer.frontend.call import Call, concrete, full_shape, is_known

__all__ = ["show", "translate_view"]

SHAPES = {"view_as", "expand_as", "reshape_as"}
"""Operators that take on the shape of another operand."""

IMAGE = 2**32
"""Difference of the numbers of two images' values: more than an image has. Numbers are float64,
which some operators ask for, and exact below 2**53."""


def translate_view(call: Call) -> str:
    """Translate any operator that gives values of one tensor as they are."""
    source = call.node.all_input_nodes[0]
    call.viewed(source)
    if not all(map(is_known, full_shape(call.node))):
        call.refuse("the shape of what it gives must be known; index by numbers, not by a mask")
    numbers = numbers_of(call, source)

    def operand(value: fx.Node) -> Any:
        if value is source:
            return numbers.contiguous()
        if value in call.values.constants:
            return call.values.constants[value]
        if call.is_computed(value) and call.kind not in SHAPES:
            call.refuse("its indices must be constant, not computed from the input")
        known = value.meta["val"]
        if isinstance(known, Tensor):  # such as one whose shape is taken on
            return torch.zeros([concrete(size) for size in known.shape])
        return concrete(known)

    args, kwargs = map_arg((call.node.args, call.node.kwargs), operand)
    moved = cast(Callable[..., Any], call.node.target)(*args, **kwargs)
    return show(call, source, moved)


def numbers_of(call: Call, value: fx.Node) -> Tensor:
    """Return the numbers of all images' values of an operand, float64 of its whole shape."""
    moved = call.values.moved.get(value)
    if moved is not None:
        assert isinstance(moved, Tensor)  # a list's only readers take one of it
        return moved
    places = torch.from_numpy(call.places(value))
    return images(concrete(full_shape(value)[0]), places.ndim) + places.double()


def images(batch: int, dims: int) -> Tensor:
    """Return the number of each image's first value, of images of some dimensions."""
    return torch.arange(batch).double().reshape(-1, *[1] * dims) * IMAGE


def show(call: Call, source: fx.Node, moved: Tensor | Sequence[Tensor]) -> str:
    """Let the call's value be a view of an operand's node that has these numbers of all images, or
    several; where the batch is in another dimension than the first one, only views can read it."""
    several = not isinstance(moved, Tensor)
    parts = list(moved) if several else [moved]
    places = [places_of(part, call.values.batch) for part in parts]
    known = [part for part in places if part is not None]
    if len(known) < len(parts):
        call.values.moved[call.node] = parts if several else parts[0]
        return call.viewed(source).name
    return call.view(source, known if several else known[0])


def places_of(numbers: Tensor, batch: int) -> np.ndarray | None:
    """Return the places of the first image, ``None`` where the first dimension is not the batch."""
    first = numbers[:1]
    if numbers.ndim == 0 or len(numbers) != batch:
        return None
    if not bool((numbers == first + images(batch, numbers.ndim - 1)).all()):
        return None
    return first[0].numpy().astype(np.int32)
