"""Concatenation of pixels: of rows, of columns, or of the tokens of a sequence."""

from collections.abc import Sequence

import numpy as np
from torch import fx

from nupes.model.operators import Mosaic, Piece
from nupes.quantizer.frontend.call import Call, full_shape
from nupes.quantizer.frontend.graph import Add, Node, Pad, Shape
from nupes.quantizer.frontend.pieces import find_pieces, raster
from nupes.quantizer.frontend.views import in_order

__all__ = ["concatenate_pixels", "constant_part"]

Part = Node | np.ndarray
"""What is joined: a map of the graph, or one (h, w, c) that the module holds."""


def concatenate_pixels(call: Call, tensors: Sequence[fx.Node], dim: int, last: bool) -> str:
    """Add the concatenation of maps or sequences along a dimension that is not the channels'.

    One computed map among constants is padded, and the constants are added around it; several are
    pieces of a mosaic.
    """
    first = next(filter(call.is_computed, tensors))
    if len(full_shape(first)) == 3:
        axis = sequence_axis(call, tensors)
    else:
        axis = dim - 1 if last else dim - 2
    parts = [
        part_of(call, tensor, axis) if call.is_computed(tensor) else held(call, tensor, axis, last)
        for tensor in tensors
    ]
    shapes = [part.shape for part in parts]
    starts = np.cumsum([0, *(shape[axis] for shape in shapes)]).tolist()
    shape = placed(starts[-1], axis, shapes[0])
    computed = [part for part in parts if isinstance(part, Node)]
    if len(computed) == 1:
        return among_constants(call, parts, starts, shape, axis)
    nodes = [part if isinstance(part, Node) else held_node(call, part) for part in parts]
    pieces = []
    for index, node in enumerate(nodes):
        to = placed(starts[index], axis, (0, 0, 0))
        pieces.append(Piece(index, node.shape, to, (1, 1, 1), (0, 0, 0), (1, 1, 1)))
    names = tuple(node.name for node in nodes)
    return call.add(Mosaic(shape, tuple(pieces)), names, shape, "cat")


def placed(value: int, axis: int, others: Sequence[int]) -> Shape:
    """Return three numbers with one of them replaced."""
    height, width, channels = (*others[:axis], value, *others[axis + 1 :])
    return height, width, channels


def among_constants(
    call: Call, parts: Sequence[Part], starts: Sequence[int], shape: Shape, axis: int
) -> str:
    """Add a padded map, and constants where it has zeros."""
    border, source, sides = np.zeros(shape), "", [0, 0, 0, 0]
    for part, start, stop in zip(parts, starts, starts[1:], strict=False):
        if isinstance(part, Node):
            source = part.name
            sides[2 * axis : 2 * axis + 2] = start, shape[axis] - stop
        else:
            border[(slice(None),) * axis + (slice(start, stop),)] = part
    top, bottom, left, right = sides
    padded = call.add(Pad((top, bottom, left, right)), (source,), shape, "cat", "padded")
    if not border.any():
        return padded
    return call.add(Add(), (padded, call.hold(border)), shape, "cat")


def sequence_axis(call: Call, tensors: Sequence[fx.Node]) -> int:
    """Return the axis along which sequences are joined: columns if all are maps of one row."""
    nodes = [call.anywhere(tensor) for tensor in tensors if call.is_computed(tensor)]
    return int(all(node.shape[0] == 1 < node.shape[1] for node in nodes))


def part_of(call: Call, value: fx.Node, axis: int) -> Node:
    """Return the node of a computed part; a sequence of a map's pixels becomes one column."""
    node = call.anywhere(value)
    if len(full_shape(value)) == 3 and node.shape[axis] != np.prod(node.shape[:2]):
        places = call.places(value)
        tokens = np.moveaxis(places, -1, 0) if call.is_last(value) else places
        whole = in_order(tokens, node.shape)
        op = raster(node.shape) if whole else find_pieces(tokens[:, :, None], node.shape)
        if op is None:
            call.refuse(f"its operand of the map {node.shape} must be a sequence of few pieces")
        Call(value, call.values).become(op, node, last=call.is_last(value))
        node = call.viewed(value)
    return node


def held(call: Call, value: fx.Node, axis: int, last: bool) -> np.ndarray:
    """Return a constant part as a map (h, w, c)."""
    array = constant_part(call, value)
    array = array if last else np.moveaxis(array, 0, -1)
    return np.expand_dims(array, 1 - axis) if array.ndim == 2 else array


def constant_part(call: Call, value: fx.Node) -> np.ndarray:
    """Return a constant part without its batch dimension."""
    array = call.constant(value, "constant operand")
    if (array != array[:1]).any():
        call.refuse(
            "its constant operand must be the same for every image of the batch, not of shape "
            f"{array.shape}"
        )
    return array[0]


def held_node(call: Call, values: np.ndarray) -> Node:
    """Return the node of a map that the module holds."""
    return call.values.graph.nodes[call.hold(values)]
