"""Sums with factors: ``a + q * b`` is ``q * (a / q + b)``.

Where ``a`` is a convolution its weights take up the division, ``b`` is added as it is stored, and
the layer's encoder multiplies; else the multiple of ``b`` would be a layer of its own.
"""

import numpy as np

from nupes.quantizer.frontend.functions import scalar_affine
from nupes.quantizer.frontend.graph import Add, Affine, Convolution, Graph, Input, Node

__all__ = ["move_factors"]


def move_factors(graph: Graph) -> None:
    """Let sums be multiplied where else a stored operand would be."""
    counts, nodes = graph.consumers(), {}
    outputs = {name for name, _ in graph.outputs}
    for node in graph.nodes.values():
        if isinstance(node.op, Add) and node.name not in outputs:
            for first, second in (node.inputs, node.inputs[::-1]):
                multiple = graph.nodes[second]
                if is_multiple_of_stored(graph, counts, multiple) and grows(graph, counts, first):
                    nodes.update(multiplied(graph, node, first, multiple))
                    break
            else:
                nodes[node.name] = node
        else:
            nodes[node.name] = node
    graph.nodes = nodes


def is_multiple_of_stored(graph: Graph, counts: dict[str, int], node: Node) -> bool:
    """Whether a node, read once, is a multiple of a tensor that something else reads, too."""
    if not isinstance(node.op, Affine) or counts[node.name] != 1 or node.op.mean is not None:
        return False
    source = graph.nodes[node.inputs[0]]
    scaled = node.op.is_uniform and node.op.scale[0] != 0 and not node.op.shift.any()
    return scaled and (counts[source.name] > 1 or isinstance(source.op, Input))


def grows(graph: Graph, counts: dict[str, int], name: str) -> bool:
    """Whether a node is a convolution's result that weights can still multiply."""
    node = graph.nodes[name]
    while isinstance(node.op, Affine) and counts[node.name] == 1:
        node = graph.nodes[node.inputs[0]]
    return isinstance(node.op, Convolution) and counts[node.name] == 1


def multiplied(graph: Graph, node: Node, first: str, multiple: Node) -> dict[str, Node]:
    """Return the nodes of a sum that is multiplied, the last of the sum's own name."""
    assert isinstance(multiple.op, Affine)
    factor, channels = float(multiple.op.scale[0]), node.shape[2]
    divide = Affine(np.full(channels, 1 / factor), np.zeros(channels))
    quotient, total = (unused(graph, f"{node.name}_{part}") for part in ("quotient", "total"))
    steps = (
        Node(quotient, divide, (first,), node.shape),
        Node(total, Add(), (quotient, multiple.inputs[0]), node.shape),
        Node(node.name, scalar_affine(factor, 0.0), (total,), node.shape),
    )
    return {step.name: step for step in steps}


def unused(graph: Graph, name: str) -> str:
    """Return a name that no node has."""
    while name in graph.nodes:
        name += "_"
    return name
