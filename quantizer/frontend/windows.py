"""Heads of attention anywhere in a map: of all tokens of a sequence, or of windows of a map.

A window is some pixels of a map, such as seven rows of seven columns, also such as a roll has moved
over the edge. What attention makes of windows is put where their queries lie in the map, so that
cutting a map into windows, and joining windows again, moves nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import fx

from nupes.model.operators import Matmul, Mosaic, Piece, Select
from nupes.quantizer.frontend.call import Call, full_shape, value_shape
from nupes.quantizer.frontend.graph import Concat, Node
from nupes.quantizer.frontend.lines import Line, lines_of
from nupes.quantizer.frontend.views import find_mosaic, find_selection, in_order

__all__ = [
    "Head",
    "Heads",
    "heads_of",
    "in_raster_order",
    "join_heads",
    "take",
    "turn",
    "whole_heads",
]


@dataclass(frozen=True, eq=False)
class Head:
    """The ``pixels`` (t,) of a map, in raster order by number, that the rows of a matrix (t, d) of
    an operand are, and the ``channels`` (d,) that its columns are, or the other way round if it is
    ``turned``; the map is ``whole`` if they are all pixels in order. Where ``ranks`` (t,) are given
    row i is the pixel of that rank."""

    pixels: np.ndarray
    channels: np.ndarray
    whole: bool
    turned: bool = False
    ranks: np.ndarray | None = None

    @property
    def tokens(self) -> np.ndarray:
        """The pixel of each row."""
        return self.pixels if self.ranks is None else self.pixels[self.ranks]


Heads = tuple[Node, list[Head]]
"""The node of an operand (..., t, d), and where in it the tokens of each head are."""


def heads_of(call: Call, value: fx.Node) -> Heads:
    """Return the heads of an operand (..., t, d), or (t, d)."""
    node, places = call.viewed(value), call.places(value)
    pixels = node.shape[0] * node.shape[1]
    for turned in (False, True):
        found = []
        for head in places.reshape(-1, *places.shape[-2:]) if places.ndim >= 2 else ():
            grid = head.T if turned else head
            rows, channels = grid[:, 0] % pixels, grid[0] // pixels
            if not np.array_equal(grid, channels * pixels + rows[:, None]):
                found = []
                break
            whole = np.array_equal(rows, np.arange(pixels))
            found.append(Head(rows, channels, whole, turned))
        if found:
            return node, found
    return call.refuse(
        "queries, keys and values must be (batch, heads, tokens, channels), each head some "
        f"channels of a sequence of tokens, not a tensor {full_shape(value)} of others"
    )


def in_raster_order(head: Head, node: Node) -> Head:
    """Return a head whose pixels rise, if as they are they are no rows and columns of a map."""
    _, width, _ = node.shape
    for rows, columns in sizes_of(head, width):
        down, right = np.divmod(head.pixels.reshape(rows, columns), width)
        if head.whole or ((down == down[:, :1]).all() and (right == right[:1]).all()):
            return head
    order = head.pixels.argsort()
    pixels = head.pixels[order]
    whole = np.array_equal(pixels, np.arange(node.shape[0] * width))
    return replace(head, pixels=pixels, whole=whole, ranks=order.argsort())


def take(call: Call, node: Node, head: Head, part: str) -> str:
    """Add the selection of a head's pixels and channels, unless it is all of them."""
    every = np.array_equal(head.channels, np.arange(node.shape[2]))
    if head.whole:
        if every:
            return node.name
        shape = (*node.shape[:2], len(head.channels))
        return call.add(Select.of(head.channels), (node.name,), shape, "attention", part)
    height, width, _ = node.shape
    places = head.channels[:, None] * height * width + head.pixels
    for (rows, columns), find in product(sizes_of(head, width), (find_selection, find_mosaic)):
        op = find(places.reshape(-1, rows, columns), node.shape)
        if op is not None:
            return call.add(op, (node.name,), op.shape(node.shape), "attention", part)
    return call.refuse(
        "the tokens of a head must be rows and columns of a map, not single pixels; move them on "
        "the host"
    )


def sizes_of(head: Head, width: int) -> list[tuple[int, int]]:
    """Return the heights and widths that a window may have as a map: of as many rows as it has in a
    map of some ``width``, or one column or row."""
    count = len(head.pixels)
    rows = len(np.unique(head.pixels // width))
    return [(rows, count // rows)] * (count % rows == 0) + [(count, 1), (1, count)]


def join_heads(call: Call, node: Node, heads: Sequence[Head], made: Sequence[str]) -> str:
    """Let the call's value (..., t, d) be a view of what was made of each of the ``heads``, the
    nodes ``made``: the channels of all, one after another, where the pixels of the heads lie in
    their ``node``."""
    groups: dict[bytes, list[int]] = {}
    for number, head in enumerate(heads):
        groups.setdefault(head.pixels.tobytes(), []).append(number)
    first, graph = graph_node(call, made[0]), call.values.graph
    width, size = first.shape[2], node.shape
    joined = [beside(call, [made[number] for number in group]) for group in groups.values()]
    if not heads[0].whole:
        every = np.concatenate([heads[group[0]].pixels for group in groups.values()])
        alike = len({len(group) for group in groups.values()}) == 1
        if not alike or not np.array_equal(np.sort(every), np.arange(size[0] * size[1])):
            call.refuse(
                "windows of queries must be all pixels of a map, each once, and have one number of "
                "heads; pad the map before its windows are cut"
            )
        channels = graph.nodes[joined[0]].shape[2]
        parts = [heads[group[0]] for group in groups.values()]
        joined = [assemble(call, joined, parts, (*size[:2], channels))]
    places = []
    for number, head in enumerate(heads):
        rank = groups[head.pixels.tobytes()].index(number)
        lanes = (rank * width + np.arange(width)) * size[0] * size[1]
        grid = head.tokens[:, None] + lanes
        places.append(grid.T if head.turned else grid)
    view = np.stack(places).astype(np.int32).reshape(value_shape(call.node))
    if not in_order(view, graph.nodes[joined[0]].shape):
        call.views[call.node] = view
    return joined[0]


def whole_heads(node: Node, count: int) -> list[Head]:
    """Return heads of whole maps."""
    return [Head(np.arange(node.shape[0] * node.shape[1]), np.arange(node.shape[2]), True)] * count


def graph_node(call: Call, name: str) -> Node:
    """Return a node by its name."""
    return call.values.graph.nodes[name]


def turn(call: Call, node: Node, part: str) -> Node:
    """Add the map (c, 1, t) whose pixels are the channels of a node, and whose channels are its
    pixels: the product of a matrix of ones on the diagonal with the node, transposed."""
    height, width, channels = node.shape
    ones = call.hold(np.eye(channels).reshape(channels, 1, channels))
    shape = channels, 1, height * width
    op = Matmul(channels, True)
    return graph_node(call, call.add(op, (ones, node.name), shape, "matmul", part))


def beside(call: Call, heads: list[str]) -> str:
    """Return the node of the channels of several nodes, one after another."""
    if len(heads) == 1:
        return heads[0]
    shapes = [call.values.graph.nodes[name].shape for name in heads]
    shape = (*shapes[0][:2], sum(shape[2] for shape in shapes))
    return call.add(Concat(), tuple(heads), shape, "attention")


def assemble(
    call: Call, made: Sequence[str], windows: Sequence[Head], shape: tuple[int, int, int]
) -> str:
    """Add the map (h, w, c) whose windows are nodes."""
    pieces = []
    for number, (name, window) in enumerate(zip(made, windows, strict=True)):
        height, width, channels = call.values.graph.nodes[name].shape
        grid = window.pixels.reshape(height, width)
        rows = rising((grid[:, 0] // shape[1]).tolist())
        columns = rising((grid[0] % shape[1]).tolist())
        for down, right in product(rows, columns):
            counts, at, at_step, to, to_step = zip(down, right, strict=True)
            pieces.append(
                Piece(
                    number,
                    (*counts, channels),
                    (*to, 0),
                    (*to_step, 1),
                    (*at, 0),
                    (*at_step, 1),
                )
            )
    return call.add(Mosaic(shape, tuple(pieces)), tuple(made), shape, "attention", "windows")


def rising(numbers: list[int]) -> list[Line]:
    """Return the numbers as lines whose numbers rise: those of a piece's places in a result."""
    found: list[Line] = []
    for count, first, step, number, rise in lines_of(numbers):
        if rise > 0:
            found.append((count, first, step, number, rise))
        else:
            found += [(1, first + i * step, 1, number + i * rise, 1) for i in range(count)]
    return found
