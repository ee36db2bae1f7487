"""Attention block by block: the scores of some queries of one head live in memory at a time."""

from dataclasses import replace

from nupes.compiler.lowering.heads import Head, find_heads
from nupes.model.layer import Layer
from nupes.model.names import free_name
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Mosaic, Piece
from nupes.model.tensor import Port, Tensor

__all__ = ["most_queries", "split_queries"]


def most_queries(network: IntegerNetwork) -> int:
    """Return how many queries the largest head has that can be split; 0 if there is none."""
    return max((queries_of(head) for head in splittable(network)), default=0)


def split_queries(network: IntegerNetwork, queries: int) -> IntegerNetwork:
    """Return a network of equal results whose heads have at most so many queries, but no less than
    a row of a map: scores, numerators and means of each block are layers, and a mosaic joins the
    means."""
    heads = [head for head in splittable(network) if queries_of(head) > queries]
    members = {layer.name for head in heads for layer in head.layers}
    last = {head.means.name: head for head in heads}
    layers: list[Layer] = []
    for layer in network.layers:
        if layer.name in last:
            layers += blocks_of(network, last[layer.name], queries)
        elif layer.name not in members:
            layers.append(layer)
    return replace(network, layers=tuple(layers)) if heads else network


def splittable(network: IntegerNetwork) -> list[Head]:
    """Return the heads of several rows whose means are codes, which can be joined."""
    heads = find_heads(network)
    return [head for head in heads if head.means.output.shape[0] > 1 and not head.means.wide]


def queries_of(head: Head) -> int:
    """Return how many queries a head has."""
    height, width, _ = head.scores.output.shape
    return height * width


def blocks_of(network: IntegerNetwork, head: Head, queries: int) -> list[Layer]:
    """Return the layers of a head, block by block, and the one that joins them."""
    found: list[Layer] = []
    pieces: list[Piece] = []
    joined: list[Port] = []
    height, width, channels = head.means.output.shape
    blocks = -(-height // max(1, queries // width))
    rows = -(-height // blocks)  # as many in each: the passes of a small one wait for their weights
    for first in range(0, height, rows):
        count = min(rows, height - first)
        before: Port | None = None
        for layer in head.layers:
            found.append(rows_of(network, layer, before, first, count))
            before = Port(found[-1].output.name)
        size, place = (count, width, channels), (first, 0, 0)
        pieces.append(Piece(len(pieces), size, place, (1, 1, 1), (0, 0, 0), (1, 1, 1)))
        joined.append(Port(found[-1].output.name))
    means, op = head.means, Mosaic(head.means.output.shape, tuple(pieces))
    return [*found, Layer(means.name, op, tuple(joined), means.output)]


def rows_of(
    network: IntegerNetwork, layer: Layer, before: Port | None, first: int, count: int
) -> Layer:
    """Return a layer for ``count`` rows from ``first`` on; its first input is what comes
    ``before``, or those rows of its own."""
    name = free_name(f"{layer.output.name}[{first}:{first + count}]", network.names)
    output = Tensor(name, (count, *layer.output.shape[1:]), layer.output.format)

    def rows(port: Port) -> Port:
        height, _, _ = port.shape(network.tensors[port.tensor].shape)
        if height != layer.output.shape[0]:
            return port  # one for all rows, such as a mask of keys
        return replace(port, first_row=port.first_row + first, rows=count)

    inputs = (before or rows(layer.inputs[0]), *layer.inputs[1:])
    post, residual = layer.post, layer.residual
    if post is not None and residual is not None:
        post = replace(post, residual=replace(residual, port=rows(residual.port)))
    return Layer(name, layer.op, inputs, output, post)
