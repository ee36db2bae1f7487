"""Operators that move or rename values: slices, reshapes, copies, casts."""

import math
from typing import Any

import torch
from torch import fx

from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, full_shape, is_map, value_shape
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.handlers.pointwise import add_function
from nupes.quantizer.frontend.registry import handles

__all__ = ["cast", "copy", "first_result", "reshape", "strided_slice"]

TO_THE_END = 2**63 - 1
"""The end of a slice that has none."""


@handles("slice")
def strided_slice(call: Call, input: fx.Node, dim: int, start: Any, end: Any, step: int) -> str:
    """Translate ``x[:, :, ::s, ::s]``: a slice from the start to the end with a step."""
    source = call.source(input)
    size = full_shape(input)[dim]
    whole = not start and (end is None or end == TO_THE_END or end >= size)
    if whole and step == 1:
        return source.name
    if not whole or not is_map(input) or dim % 4 not in (2, 3):
        call.refuse("a slice must take every n-th row or column of the whole map")
    op = Select(source.shape[2], 0, (step, 1) if dim % 4 == 2 else (1, step))
    return call.add(op, (source.name,), op.shape(source.shape), "slice")


@handles(
    *("flatten", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "view_as", "unflatten"),
    ignores=("start_dim", "end_dim", "size", "shape", "dim", "other", "sizes"),
)
def reshape(call: Call, input: fx.Node) -> str:
    """Let a flatten, or a reshape that adds or drops sizes of 1, be the tensor that it reads."""
    source = call.source(input)
    height, width, channels = source.shape
    same_batch = str(full_shape(call.node)[0]) == str(full_shape(input)[0])
    shape, original = value_shape(call.node), (channels, height, width)
    allowed = shape in (original, (math.prod(original),))
    if len(shape) == 2:  # on the way to or from a map: what it is then is checked again
        allowed = [size for size in shape if size > 1] == [size for size in original if size > 1]
    if not same_batch or not allowed:
        call.refuse(
            f"a reshape must flatten the whole map to (batch, features), not "
            f"give {full_shape(call.node)}"
        )
    return source.name


@handles("clone", "contiguous", "detach", "alias", "lift_fresh_copy", ignores=("memory_format",))
def copy(call: Call, input: fx.Node) -> str:
    """Let a call that changes no value be the tensor that it reads."""
    return call.source(input).name


@handles(
    *("to", "_to_copy", "type_as"),
    ignores=(
        *("dtype", "layout", "device", "pin_memory", "non_blocking", "copy", "memory_format"),
        "other",
    ),
)
def cast(call: Call, input: fx.Node) -> str:
    """Let a cast that changes no value be the tensor; truth values become 0 and 1."""
    source = call.source(input)
    before, after = input.meta["val"].dtype, call.node.meta["val"].dtype
    if before == torch.bool and after.is_floating_point:
        return add_function(call, Function("float", lambda x: x.float()), source)
    if before != after and torch.promote_types(before, after) != after:
        call.refuse(
            f"a cast to {after} is not supported; keep one floating-point type, without autocast"
        )
    return source.name


@handles("getitem")
def first_result(call: Call, input: fx.Node) -> str:
    """Take the value of an operator that also returns statistics or indices."""
    if call.node.args[1] != 0:
        call.refuse("only the first result of an operator is supported")
    return call.source(input).name
