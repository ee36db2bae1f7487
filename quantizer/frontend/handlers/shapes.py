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
    anywhere=True,
)
def reshape(call: Call, input: fx.Node) -> str:
    """Let a reshape that moves nothing be the tensor that it reads: a flatten, one of the pixels of
    a map to a sequence or back, and one that adds or drops sizes of 1."""
    source, last = call.source(input), call.values.graph.last
    height, width, channels = source.shape
    same_batch = str(full_shape(call.node)[0]) == str(full_shape(input)[0])
    shape = value_shape(call.node)
    if height == width == 1 and len(shape) > 1:  # the channels are where the numbers are
        (last.add if shape[-1] == channels > 1 else last.discard)(call.node)
    pixels = [(height, width), (height * width,)]
    order = (lambda sizes: (*sizes, channels)) if call.node in last else (lambda s: (channels, *s))
    allowed = shape in (*map(order, pixels), (math.prod(source.shape),))
    if not same_batch or not allowed:
        call.refuse(
            f"a reshape must flatten the whole map to (batch, features), not "
            f"give {full_shape(call.node)}"
        )
    return source.name


@handles("permute", anywhere=True)
def permute(call: Call, input: fx.Node, dims: list[int]) -> str:
    """Let a permutation that takes the channels from dimension 1 to the last one, or back, be the
    tensor that it reads."""
    count, last = len(dims), call.values.graph.last
    order = [axis % count for axis in dims]
    there, back = [0, *range(2, count), 1], [0, count - 1, *range(1, count - 1)]
    if order != sorted(order):
        if order != (back if call.is_last(input) else there):
            call.refuse(
                "a permutation must take the channels from dimension 1 to the last one, or back, "
                f"not be {tuple(dims)}"
            )
        (last.discard if call.is_last(input) else last.add)(call.node)
    return call.source(input).name


@handles("transpose", "swapaxes", "swapdims", anywhere=True)
def transpose(
    call: Call,
    input: fx.Node,
    dim0: int | None = None,
    dim1: int | None = None,
    axis0: int = 1,
    axis1: int = 1,
) -> str:
    """Translate the exchange of two dimensions as a permutation."""
    order = list(range(len(full_shape(input))))
    first, second = (axis0, axis1) if dim0 is None or dim1 is None else (dim0, dim1)
    order[first], order[second] = order[second], order[first]
    return permute(call, input, order)


@handles("mT", "numpy_T", anywhere=True)
def matrix_transpose(call: Call, input: fx.Node) -> str:
    """Translate the exchange of the last two dimensions."""
    return transpose(call, input, -2, -1)


@handles(
    *("clone", "contiguous", "detach", "alias", "lift_fresh_copy"),
    ignores=("memory_format",),
    anywhere=True,
)
def copy(call: Call, input: fx.Node) -> str:
    """Let a call that changes no value be the tensor that it reads."""
    return call.source(input).name


@handles(
    *("to", "_to_copy", "type_as"),
    ignores=(
        *("dtype", "layout", "device", "pin_memory", "non_blocking", "copy", "memory_format"),
        "other",
    ),
    anywhere=True,
)
def cast(call: Call, input: fx.Node) -> str:
    """Let a cast between types of real numbers be the tensor, as the codes of an integer network
    are coarser than any of them; truth values become 0 and 1."""
    source = call.source(input)
    before, after = input.meta["val"].dtype, call.node.meta["val"].dtype
    if before == torch.bool and after.is_floating_point:
        return add_function(call, Function("float", lambda x: x.float()), source)
    if before != after and not (before.is_floating_point and after.is_floating_point):
        call.refuse(f"a cast to {after} is not supported; keep floating-point numbers")
    return source.name


@handles("getitem", anywhere=True)
def first_result(call: Call, input: fx.Node) -> str:
    """Take the value of an operator that also returns statistics or indices."""
    if call.node.args[1] != 0:
        call.refuse("only the first result of an operator is supported")
    return call.source(input).name
