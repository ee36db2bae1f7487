"""Operators that join computed tensors: concatenation, and products of two of them."""

from torch import fx

from nupes.model.operators import Concat as IntegerConcat
from nupes.quantizer.frontend.call import Call, full_shape, value_shape
from nupes.quantizer.frontend.graph import Concat, Node, Product
from nupes.quantizer.frontend.handlers.rows import concatenate_pixels
from nupes.quantizer.frontend.registry import handles

__all__ = ["concatenate", "multiply_tensors"]


@handles("cat", "concat", "concatenate")
def concatenate(call: Call, tensors: list[fx.Node], dim: int) -> str:
    """Translate the concatenation of maps, of vectors or of tokens."""
    if len(tensors) == 1:
        return call.view(tensors[0], call.places(tensors[0]))
    first = next(filter(call.is_computed, tensors))
    call.anywhere(first)
    dims = len(full_shape(first))
    axis = 1 if call.is_first(first) else dims - 1
    if dim % dims != axis:
        if dim % dims == 0 or dims not in (3, 4):
            call.refuse(
                f"a concatenation must be along channels, rows, columns or tokens, not {dim} of "
                f"{dims} dimensions"
            )
        return concatenate_pixels(call, tensors, dim % dims, last=axis > 1)
    sources = [
        call.anywhere(part) if call.is_computed(part) else held_part(call, part, first)
        for part in tensors
    ]
    if dims == 2 and any(source.shape[:2] != (1, 1) for source in sources):
        call.refuse("maps must be concatenated before they are flattened, not after")
    shape = IntegerConcat().shape(*(source.shape for source in sources))
    return call.add(Concat(), tuple(source.name for source in sources), shape, "cat")


def held_part(call: Call, part: fx.Node, first: fx.Node) -> Node:
    """Return the node of a constant part, which lies beside the pixels of a computed one."""
    height, width, _ = call.anywhere(first).shape
    array = call.constant(part, "constant operand")
    if (array != array[:1]).any():
        call.refuse(
            "its constant operand must be the same for every image of the batch, not of shape "
            f"{array.shape}"
        )
    array = array[0]
    if call.is_first(first):
        values = array.reshape(-1, height, width).transpose(1, 2, 0)
    else:
        values = array.reshape(height, width, -1)
    return call.values.graph.nodes[call.hold(values)]


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
