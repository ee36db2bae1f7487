"""Placement: which planes every tensor has, where it lies in the activation memory, and whether the
input is packed.
"""

from dataclasses import dataclass

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import PatchLayout, TensorLayout
from nupes.compiler.place.memory import Request, allocate, words_needed
from nupes.compiler.place.packing import zero_digits
from nupes.model.codebook import Codebook
from nupes.model.errors import CapacityError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.planes import Planes, split_planes
from nupes.model.tensor import Tensor

__all__ = ["Placement", "check_levels", "place"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Planes and layout of every tensor; ``patched`` is the layer whose input is packed as
    ``patches``, if any.
    """

    planes: dict[str, Planes]
    layouts: dict[str, TensorLayout]
    patched: Layer | None
    patches: PatchLayout | None
    act_words: int


def place(network: IntegerNetwork, config: ArrayConfig) -> Placement:
    """Return the placement of a network's tensors.

    The input is packed as patches where that pays and fits, and is a plain map otherwise. Raise
    ``CapacityError`` if the network does not fit ``act_depth`` in either way.
    """
    for name, tensor in network.stored.items():
        check_levels(f"tensor {name!r}", tensor.codebook, "activation_level_bits", config)
    planes = {
        name: split_planes(tensor.codebook, config.code_bits)
        for name, tensor in network.stored.items()
    }
    patched = patch_reader(network, planes[network.the_input.tensor.name], config)
    ways = [None] if patched is None else [patched, None]
    needs = [words_needed(lives(network, sizes(network, planes, way, config))) for way in ways]
    fitting = [way for way, words in zip(ways, needs, strict=True) if words <= config.act_depth]
    # If none fits, the smaller one's error is the one to report.
    way = fitting[0] if fitting else ways[needs.index(min(needs))]
    return place_as(network, planes, way, config)


def sizes(
    network: IntegerNetwork, planes: dict[str, Planes], patched: Layer | None, config: ArrayConfig
) -> dict[str, int]:
    """Return the words of every tensor; the input is packed for ``patched``, or plain (None)."""
    source = network.the_input.tensor
    words = {
        name: map_layout(tensor, 0, planes[name].count, config).words
        for name, tensor in network.stored.items()
    }
    if patched is not None:
        words[source.name] = patch_layout(
            patched, source, 0, planes[source.name].count, config
        ).words
    return words


def place_as(
    network: IntegerNetwork, planes: dict[str, Planes], patched: Layer | None, config: ArrayConfig
) -> Placement:
    """Return the placement with the input packed for ``patched``, or as a plain map (None)."""
    source, tensors = network.the_input.tensor, network.stored
    words = sizes(network, planes, patched, config)
    bases = allocate(lives(network, words), config)
    layouts = {
        name: map_layout(tensor, bases[name], planes[name].count, config)
        for name, tensor in tensors.items()
    }
    patches = None
    if patched is not None:
        base, count = bases[source.name], planes[source.name].count
        patches = patch_layout(patched, source, base, count, config)
    used = max(bases[name] + words[name] for name in tensors)
    return Placement(planes, layouts, patched, patches, used)


def map_layout(tensor: Tensor, base: int, planes: int, config: ArrayConfig) -> TensorLayout:
    """Return the layout of a tensor as a map from ``base`` on."""
    height, width, channels = tensor.shape
    return TensorLayout.whole(base, height, width, -(-channels // config.lanes), planes)


def patch_layout(
    layer: Layer, source: Tensor, base: int, planes: int, config: ArrayConfig
) -> PatchLayout:
    """Return the layout of the input packed for a convolution, from ``base`` on."""
    assert isinstance(layer.op, Conv)
    height, width, _ = layer.op.shape(source.shape)
    operands = layer.op.kernel[0] * layer.op.kernel[1] * source.shape[2]
    words = -(-operands // config.lanes)
    return PatchLayout(base, height * width, words, planes, config.acc_depth)


def patch_reader(network: IntegerNetwork, planes: Planes, config: ArrayConfig) -> Layer | None:
    """Return the convolution whose input the host packs as patches, or None if the input stays a
    map.

    Packing pays when it needs fewer passes; it needs a single reader with one group, and a zero for
    padding taps. Patches are no map, so nothing may add the input either, that reader included.
    """
    source = network.the_input.tensor
    readers = [layer for layer in network.layers if layer.inputs[0].tensor == source.name]
    skips = [layer.residual.port.tensor for layer in network.layers if layer.residual]
    if len(readers) != 1 or source.name in skips:
        return None
    op, channels = readers[0].op, source.shape[2]
    if not isinstance(op, Conv) or op.groups != 1:
        return None
    taps = op.kernel[0] * op.kernel[1]
    if -(-taps * channels // config.rows) >= taps * -(-channels // config.rows):
        return None
    if any(op.padding) and zero_digits(planes, source.codebook.levels) is None:
        return None
    return readers[0]


def lives(network: IntegerNetwork, words: dict[str, int]) -> list[Request]:
    """Return what each tensor needs and from which layer to which it lives."""
    born, dies = {network.the_input.tensor.name: -1}, {network.the_input.tensor.name: -1}
    for index, layer in enumerate(network.layers):
        for port in layer.reads:
            dies[port.tensor] = index
        if not layer.wide:
            born[layer.output.name] = dies[layer.output.name] = index
    return [Request(name, words[name], born[name], dies[name]) for name in born]


def check_levels(where: str, book: Codebook, name: str, config: ArrayConfig) -> None:
    """Refuse levels beyond the signed bits that the configuration field ``name`` gives them."""
    low, high, bits = int(book.levels[0]), int(book.levels[-1]), getattr(config, name)
    needed = 1 + max(max(high, 0).bit_length(), max(~low, 0).bit_length())
    if needed > bits:
        raise CapacityError(
            f"{where}: levels {low}..{high} must fit {name} {bits}; use {name}={needed}"
        )
