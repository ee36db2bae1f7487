"""Operators that join computed tensors: concatenation, and products of two of them."""

from torch import fx

from nupes.model.operators import Concat as IntegerConcat
from nupes.quantizer.frontend.call import Call, full_shape, is_map, value_shape
from nupes.quantizer.frontend.graph import Concat, Product
from nupes.quantizer.frontend.registry import handles

__all__ = ["concatenate", "multiply_tensors"]


@handles("cat", "concat", "concatenate")
def concatenate(call: Call, tensors: list[fx.Node], dim: int) -> str:
    """Translate the concatenation of maps, or of vectors, along their channels."""
    if not all(map(call.is_computed, tensors)):
        call.refuse("every part of a concatenation must depend on the network's input")
    sources = [call.source(tensor) for tensor in tensors]
    if len(sources) == 1:
        return sources[0].name
    dims = len(full_shape(tensors[0]))
    if dim % dims != 1 or dims not in (2, 4):
        call.refuse(f"a concatenation must be along the channels, dimension 1, not {dim}")
    if dims == 2 and any(source.shape[:2] != (1, 1) for source in sources):
        call.refuse("maps must be concatenated before they are flattened, not after")
    shape = IntegerConcat().shape(*(source.shape for source in sources))
    return call.add(Concat(), tuple(source.name for source in sources), shape, "cat")


def multiply_tensors(call: Call, left: fx.Node, right: fx.Node) -> str:
    """Add the product of two computed tensors, one of which may have sizes of 1."""
    for factor, whole in ((left, right), (right, left)):
        sizes = value_shape(factor), value_shape(whole)
        alike = (is_map(factor) and is_map(whole)) or sizes[0] == sizes[1]
        if alike and all(size in (1, full) for size, full in zip(*sizes, strict=True)):
            if sizes[0] == sizes[1] and call.repeated(whole):
                continue  # what repeats itself is the first factor
            first, second = call.repeated(factor) or call.source(factor), call.source(whole)
            return call.add(Product(), (first.name, second.name), second.shape, "mul")
    return call.refuse(
        "both factors of a product must have one shape, or one of them sizes of 1 where it serves "
        f"all of the other's, not {value_shape(left)} and {value_shape(right)}"
    )
