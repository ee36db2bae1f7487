"""Sums of both signs of a PReLU, taken in by the convolutions that read them.

A sum would be stored once more, signed, with half the resolution of its two parts. A convolution of
twice the channels reads the parts themselves.
"""

from dataclasses import replace
from typing import TypeGuard

from nupes.quantizer.frontend.graph import Convolution, Graph, Node, Op

__all__ = ["take_in_halves"]


def take_in_halves(graph: Graph) -> None:
    """Let every sum of pairs of channels that only convolutions read be part of their weights."""
    outputs = {name for name, _ in graph.outputs}
    for node in list(graph.nodes.values()):
        readers = [other for other in graph.nodes.values() if node.name in other.inputs]
        if not is_sum_of_pairs(node.op) or node.name in outputs or not readers:
            continue
        if not all(isinstance(reader.op, Convolution) for reader in readers):
            continue
        for reader in readers:
            whole = doubled(reader.op, node.op)
            graph.nodes[reader.name] = Node(reader.name, whole, node.inputs, reader.shape)


def is_sum_of_pairs(op: Op) -> TypeGuard[Convolution]:
    """Whether an operator adds up pairs of channels of each pixel, and nothing else."""
    if not isinstance(op, Convolution) or op.weight.shape[1:] != (2, 1, 1):
        return False
    moves = (op.stride, op.padding, op.stretch) != ((1, 1), (0, 0, 0, 0), (1, 1))
    return op.groups == len(op.weight) and not op.bias.any() and not moves


def doubled(op: Op, pairs: Convolution) -> Convolution:
    """Return a convolution of sums as one of their parts."""
    assert isinstance(op, Convolution)
    channels = op.weight.shape[1]
    per_group = len(op.weight) // op.groups
    factors = pairs.weight[:, :, 0, 0].reshape(op.groups, channels, 2).repeat(per_group, axis=0)
    weight = op.weight[:, :, None] * factors[:, :, :, None, None]
    return replace(op, weight=weight.reshape(len(weight), 2 * channels, *op.weight.shape[2:]))
