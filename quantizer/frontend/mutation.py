"""In-place operators replaced by the ones that return a new tensor.

PyTorch's own functionalization traces the whole program again, which takes as long as the export.
Most networks need less: an in-place ``relu`` or sum on a tensor that nothing else is a view of.
"""

from typing import Any

import torch
from torch import fx

from nupes.quantizer.frontend.registry import base_name, copy_graph

__all__ = ["replace_in_place"]

COPIES = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
"""Operators that give a new tensor or, in evaluation, the one that they read."""

FRESH = {
    *("conv2d", "convolution", "linear", "addmm", "batch_norm", "cat", "hardswish"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
}
"""Operators that give a new tensor, beside the pointwise ones."""


def replace_in_place(graph: fx.Graph) -> fx.Graph | None:
    """Return a graph without in-place operators: itself, or a changed copy; None where it takes
    more than to give their results a name, or where it has wrapped regions."""
    if any(node.op == "get_attr" for node in graph.nodes):
        return None
    if not any(is_mutable(node) for node in graph.nodes):
        return graph
    copy = copy_graph(graph)
    order = {node: position for position, node in enumerate(copy.nodes)}
    for node in list(copy.nodes):
        if is_mutable(node) and not replace(node, order):
            return None
    return copy


def is_mutable(node: fx.Node) -> bool:
    """Whether a call changes an operand."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def replace(node: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Let a call give a new tensor to all that read its operand later; return whether nothing else
    can see the change."""
    target, operand = functional(node.target), node.args[0]
    if target is None or not isinstance(operand, fx.Node):
        return False
    if base_of(target) in COPIES and node.args[2:] == (False,):  # evaluation: nothing changes
        node.target = target
        return True
    if not is_fresh(operand):
        return False
    earlier = [user for user in operand.users if order[user] < order[node]]
    if not all(is_fresh(user) for user in earlier):
        return False
    node.target = target
    operand.replace_all_uses_with(node, lambda user: order[user] > order[node])
    return True


def functional(target: Any) -> Any:
    """Return the operator that does to a new tensor what this one does to its first operand."""
    first, *others = target._schema.arguments
    writes = first.alias_info is not None and first.alias_info.is_write
    packet = getattr(torch.ops.aten, target._opname.removesuffix("_"), None)
    if not writes or any(item.alias_info for item in others) or packet is None:
        return None
    # Overloads have other names here and there: the types of the arguments must be the same.
    signature = [str(first.type), *((item.name, str(item.type)) for item in others)]
    for name in packet.overloads():
        found = getattr(packet, name)
        same, *rest = found._schema.arguments
        if [str(same.type), *((item.name, str(item.type)) for item in rest)] == signature:
            break
    else:
        return None
    known = torch.Tag.pointwise in found.tags or base_of(found) in FRESH | COPIES
    return found if known else None


def base_of(target: Any) -> str:
    """Return an operator's name."""
    return target._schema.name.split("::")[-1]


def is_fresh(node: fx.Node) -> bool:
    """Whether a call's value shares no memory with its operands."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    aliases = any(value.alias_info for value in node.target._schema.returns)
    pointwise = torch.Tag.pointwise in node.target.tags
    return not aliases and (pointwise or base_name(node) in FRESH)
