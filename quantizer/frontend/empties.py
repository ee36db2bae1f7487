"""Tensors of no values that are joined to others, as where rotary embeddings turn all channels and
leave the rest as it is: they are left out."""

from torch import Tensor, fx

from nupes.quantizer.frontend.registry import JOINS, copy_graph, is_call

__all__ = ["leave_out_empty"]


def leave_out_empty(graph: fx.Graph) -> fx.Graph:
    """Return a graph whose concatenations join tensors with values only: itself, or a changed
    copy."""
    if not any(
        is_call(node, JOINS) and len(filled(node)) < len(parts(node)) for node in graph.nodes
    ):
        return graph
    copy = copy_graph(graph)
    for node in list(copy.nodes):
        if not is_call(node, JOINS) or not filled(node):
            continue
        if len(filled(node)) == 1 and len(parts(node)) > 1:
            node.replace_all_uses_with(filled(node)[0])
            copy.erase_node(node)
        else:
            node.args = (filled(node), *node.args[1:])
    return copy


def parts(node: fx.Node) -> list[fx.Node]:
    """Return what is joined."""
    return list(node.args[0])  # type: ignore[arg-type]


def filled(node: fx.Node) -> list[fx.Node]:
    """Return what of it has values."""
    values = ((part, part.meta.get("val")) for part in parts(node))
    return [part for part, value in values if not isinstance(value, Tensor) or value.numel()]
