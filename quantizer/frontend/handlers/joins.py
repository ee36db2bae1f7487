"""Operators that join computed tensors: concatenations, stacks, products of two, gated units."""

from math import prod
from typing import Any

import numpy as np
from torch import fx

from nupes.model.operators import Concat as IntegerConcat
from nupes.model.operators import Select
from nupes.quantizer.frontend.call import Call, full_shape, value_shape
from nupes.quantizer.frontend.functions import SIGMOID
from nupes.quantizer.frontend.graph import Concat, Node, Product
from nupes.quantizer.frontend.handlers.pairs import Pair
from nupes.quantizer.frontend.handlers.pointwise import add_function
from nupes.quantizer.frontend.handlers.rows import concatenate_pixels, constant_part
from nupes.quantizer.frontend.heads import join_by_tokens
from nupes.quantizer.frontend.pieces import find_pieces
from nupes.quantizer.frontend.registry import handles
from nupes.quantizer.frontend.views import in_order, own_places

__all__ = ["concatenate", "gate_by_half", "multiply_tensors", "stack"]


@handles("cat", "concat", "concatenate")
def concatenate(call: Call, tensors: list[Any], dim: int) -> str:
    """Translate the concatenation of maps, tokens or vectors along their channels, rows, columns or
    tokens."""
    if len(tensors) == 1:
        return call.view(tensors[0], call.places(tensors[0]))
    first = next(filter(call.is_computed, tensors))
    dims = len(full_shape(first))
    axis = dim % dims
    name = join_by_tokens(call, tensors, axis - 1, new=False)
    if name is not None:
        return name
    if (dims, axis) == (3, 1):
        for part in filter(call.is_computed, tensors):
            call.lays_last(part, strict=False)
    whole = call.anywhere(first)
    last = call.is_last(first) and not call.is_first(first)
    if axis == (dims - 1 if last else 1):
        size = whole.shape[:2]
        sources = [part_of(call, part, last, size) for part in tensors]
        if dims == 2:
            sources = [flat(call, source) for source in sources]
        return side_by_side(call, sources)
    if dims not in (3, 4) or axis == 0:
        call.refuse(
            f"a concatenation must be along channels, rows, columns or tokens, not {axis} of "
            f"{dims} dimensions"
        )
    return concatenate_pixels(call, tensors, axis, last)


@handles("stack")
def stack(call: Call, tensors: list[Any], dim: int) -> str:
    """Translate tensors along a new dimension: a view of their channels, one after another."""
    axis = dim % (len(full_shape(call.node)))
    if axis == 0:
        call.refuse("it must leave the batch dimension as it is")
    if len(tensors) == 1:
        return call.view(tensors[0], np.expand_dims(call.places(tensors[0]), axis - 1))
    name = join_by_tokens(call, tensors, axis - 1, new=True)
    if name is not None:
        return name
    first = next(filter(call.is_computed, tensors))
    size = call.anywhere(first).shape[:2]
    last = call.is_last(first) and not call.is_first(first)
    sources = [part_of(call, part, last, size) for part in tensors]
    name, places, offset = side_by_side(call, sources), [], 0
    for part, source in zip(tensors, sources, strict=True):
        own = call.places(part) if call.is_computed(part) else call.places(first)
        places.append(own + offset)
        offset += prod(source.shape)
    view = np.stack(places, axis - 1)
    if not in_order(view, call.values.graph.nodes[name].shape):
        call.views[call.node] = view
    return name


def flat(call: Call, source: Node) -> Node:
    """Return the node of a map's values as the channels of one pixel."""
    if source.shape[:2] == (1, 1):
        return source
    places = own_places((prod(source.shape), 1, 1))
    op = find_pieces(places, source.shape)
    if op is None:
        call.refuse(
            "maps of more than 64 pixels must be concatenated before they are flattened, not after"
        )
    return call.values.graph.nodes[call.add(op, (source.name,), op.size, call.kind, "flat")]


@handles("glu")
def gate_by_half(call: Call, input: fx.Node, dim: int) -> str:
    """Translate the first half of channels times the sigmoid of the second half."""
    source, dims = call.anywhere(input), len(full_shape(input))
    last = call.is_last(input) and not call.is_first(input)
    if dim % dims != (dims - 1 if last else 1):
        call.refuse(f"the halves of a gated unit must be of channels, not of dimension {dim}")
    half = source.shape[2] // 2
    shape = (*source.shape[:2], half)
    first, second = (
        call.add(Select.of(np.arange(half) + begin), (source.name,), shape, "glu", part)
        for begin, part in ((0, "value"), (half, "gate"))
    )
    gate = add_function(call, SIGMOID, call.values.graph.nodes[second])
    return call.add(Product(), (gate, first), shape, "glu")


def side_by_side(call: Call, sources: list[Node]) -> str:
    """Add the channels of maps, one map after another."""
    shape = IntegerConcat().shape(*(source.shape for source in sources))
    return call.add(Concat(), tuple(source.name for source in sources), shape, call.kind)


def part_of(call: Call, part: Any, last: bool, size: Pair) -> Node:
    """Return the node of a part, which for a constant one is held on pixels of a ``size``."""
    if call.is_computed(part):
        return call.anywhere(part)
    array = constant_part(call, part)
    values = array.reshape(*size, -1) if last else array.reshape(-1, *size)
    held = values if last else values.transpose(1, 2, 0)
    return call.values.graph.nodes[call.hold(held)]


def multiply_tensors(call: Call, left: fx.Node, right: fx.Node) -> str:
    """Add the product of two computed tensors, one of which may have sizes of 1."""
    for factor, whole in ((left, right), (right, left)):
        sizes = value_shape(factor), value_shape(whole)
        alike = len(sizes[0]) == len(sizes[1]) > 1 or sizes[0] == sizes[1]
        if alike and all(size in (1, full) for size, full in zip(*sizes, strict=True)):
            if sizes[0] == sizes[1] and call.repeated(whole):
                continue  # what repeats itself is the first factor
            first, second = call.repeated(factor) or call.anywhere(factor), call.anywhere(whole)
            pairs = zip(first.shape, second.shape, strict=True)
            if all(size in (1, full) for size, full in pairs):
                return call.add(Product(), (first.name, second.name), second.shape, "mul")
    return call.refuse(
        "both factors of a product must have one shape, or one of them sizes of 1 where it serves "
        f"all of the other's, not {value_shape(left)} and {value_shape(right)}"
    )
