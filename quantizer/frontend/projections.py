"""Projections: one linear layer that makes queries, keys and values becomes one for each, so that
each has codes, and rows, of its own."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from nupes.model.operators import Matmul, Select, WeightedMean
from nupes.quantizer.frontend.graph import Convolution, Graph, Node

__all__ = ["split_projections"]

ROLES = {(Matmul, 0): "query", (Matmul, 1): "key", (WeightedMean, 1): "value"}
"""What an operand of attention is, by the operator that reads it and its place."""


def split_projections(graph: Graph) -> None:
    """Let a linear layer be several where each of its channels is read as either a query, a key or
    a value."""
    readers, roles = readers_of(graph), roles_of(graph)
    outputs = {name for name, _ in graph.outputs}
    nodes: dict[str, Node] = {}
    changed: dict[str, Node] = {}
    for name, old in graph.nodes.items():
        node = changed.get(name, old)
        parts = {} if name in outputs else parts_of(node, readers[name], roles)
        if len(parts) < 2:
            nodes[name] = node
            continue
        for role, channels in parts.items():
            part = f"{name}.{role}"
            nodes[part] = part_of(node, part, channels)
            for reader in readers[name]:
                if roles[reader.name] == role:
                    changed[reader.name] = reading(reader, part, channels)
    graph.nodes = nodes


def readers_of(graph: Graph) -> dict[str, list[Node]]:
    """Return the nodes that read each node."""
    found: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes.values():
        for source in node.inputs:
            found[source].append(node)
    return found


def roles_of(graph: Graph) -> dict[str, str]:
    """Return what each node is to attention that is one thing to it and nothing else."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes.values():
        for place, source in enumerate(node.inputs):
            found[source].add(ROLES.get((type(node.op), place), ""))
    return {
        name: role for name, roles in found.items() for role in roles if roles == {role} != {""}
    }


def parts_of(node: Node, readers: list[Node], roles: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the channels of a linear layer by what they are, nothing for any other node."""
    if not isinstance(node.op, Convolution) or node.op.groups != 1:
        return {}
    found: dict[str, set[int]] = defaultdict(set)
    for reader in readers:
        op = reader.op
        if not isinstance(op, Select) or op != Select(op.channels) or reader.name not in roles:
            return {}
        found[roles[reader.name]].update(op.channels)
    if len(set[int]().union(*found.values())) < sum(map(len, found.values())):
        return {}
    return {role: np.array(sorted(channels)) for role, channels in found.items()}


def part_of(node: Node, name: str, channels: np.ndarray) -> Node:
    """Return the linear layer that makes some of the channels."""
    op = node.op
    assert isinstance(op, Convolution)
    op = replace(op, weight=op.weight[channels], bias=op.bias[channels])
    return Node(name, op, node.inputs, (*node.shape[:2], len(channels)))


def reading(reader: Node, source: str, channels: np.ndarray) -> Node:
    """Return a selection of the same channels from such a part of the layer."""
    assert isinstance(reader.op, Select)
    places = np.searchsorted(channels, reader.op.channels)
    return Node(reader.name, Select.of(places), (source,), reader.shape)
