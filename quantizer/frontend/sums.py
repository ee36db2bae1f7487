"""Sums with constants: ``(x + a) + b`` is ``x + (a + b)``, one tensor that the network holds."""

from dataclasses import replace

from nupes.quantizer.frontend.graph import Add, Constant, Graph, Node

__all__ = ["join_constants"]


def join_constants(graph: Graph) -> None:
    """Let a constant that is added to a sum with a constant, which nothing else reads, be part of
    that one."""
    counts = graph.consumers()
    for name, node in graph.nodes.items():
        outer = constant_term(graph, node)
        inner = outer and constant_term(graph, graph.nodes[outer[0]])
        if not outer or not inner or counts[outer[0]] != 1:
            continue
        x, first, second = inner[0], graph.nodes[inner[1]], graph.nodes[outer[1]]
        assert isinstance(first.op, Constant)
        assert isinstance(second.op, Constant)
        total = Constant(first.op.values + second.op.values)
        graph.nodes[second.name] = replace(second, op=total)
        graph.nodes[name] = replace(node, inputs=(x, second.name))


def constant_term(graph: Graph, node: Node) -> tuple[str, str] | None:
    """Return the other operand and the constant of a sum, ``None`` for any other node. Each sum has
    a constant of its own."""
    if isinstance(node.op, Add):
        for name, other in (node.inputs, node.inputs[::-1]):
            if isinstance(graph.nodes[other].op, Constant):
                return name, other
    return None
