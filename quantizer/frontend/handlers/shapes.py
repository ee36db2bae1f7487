"""Operators that give a tensor itself: copies, casts, and one of several results."""

import torch
from torch import fx

from nupes.quantizer.frontend.call import Call
from nupes.quantizer.frontend.functions import Function
from nupes.quantizer.frontend.handlers.pointwise import add_function
from nupes.quantizer.frontend.handlers.views import show
from nupes.quantizer.frontend.registry import handles

__all__ = ["cast", "copy", "one_result"]


@handles("clone", "contiguous", "detach", "alias", "lift_fresh_copy", ignores=("memory_format",))
def copy(call: Call, input: fx.Node) -> str:
    """Let a call that changes no value be the tensor that it reads."""
    return same(call, input)


@handles(
    *("to", "_to_copy", "type_as"),
    ignores=(
        *("dtype", "layout", "device", "pin_memory", "non_blocking", "copy", "memory_format"),
        "other",
    ),
)
def cast(call: Call, input: fx.Node) -> str:
    """Let a cast between types of real numbers be the tensor, as the codes of an integer network
    are coarser than any of them; truth values become 0 and 1."""
    before, after = input.meta["val"].dtype, call.node.meta["val"].dtype
    if before == torch.bool and after.is_floating_point:
        return add_function(call, Function("float", lambda x: x.float()), call.anywhere(input))
    if before != after and not (before.is_floating_point and after.is_floating_point):
        call.refuse(f"a cast to {after} is not supported; keep floating-point numbers")
    return same(call, input)


def same(call: Call, input: fx.Node) -> str:
    """Let a call be the tensor that it reads."""
    moved = call.values.moved.get(input)
    return call.view(input, call.places(input)) if moved is None else show(call, input, moved)


@handles("getitem")
def one_result(call: Call, input: fx.Node) -> str:
    """Take one of several tensors, or the value of an operator that also returns statistics or
    indices."""
    index, parts = call.node.args[1], call.views.get(input)
    moved = call.values.moved.get(input)
    if isinstance(moved, list) and isinstance(index, int):
        return show(call, input, moved[index])
    if isinstance(parts, list) and isinstance(index, int):
        return call.view(input, parts[index])
    if index != 0:
        call.refuse("only the first result of an operator is supported")
    return call.view(input, call.places(input))
