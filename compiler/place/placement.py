"""Placement: which planes every tensor has, where it lies in the activation memory, and whether the
input is packed.
"""

from dataclasses import dataclass, replace
from typing import cast

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import PatchLayout, TensorLayout
from nupes.compiler.place.memory import Request, allocate, words_needed
from nupes.compiler.place.packing import zero_digits
from nupes.compiler.place.ranges import Ranges, root_of
from nupes.model.codebook import Codebook
from nupes.model.errors import CapacityError
from nupes.model.layer import Layer
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.model.planes import Planes, planes_of
from nupes.model.tensor import Port, Tensor, Wide

__all__ = ["Placement", "check_levels", "place"]


NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Placement:
    """Planes and layout of every tensor; ``ranges`` tells those that lie inside others, ``patched``
    is the layer whose input is packed as ``patches``, if any.
    """

    planes: dict[str, Planes]
    layouts: dict[str, TensorLayout]
    ranges: Ranges
    patched: Layer | None
    patches: PatchLayout | None
    act_words: int


@dataclass(frozen=True, eq=False)
class Way:
    """A way to place a network: the input packed for ``patched`` or not (None), and ``ranges``."""

    patched: Layer | None
    ranges: Ranges


def place(network: IntegerNetwork, config: ArrayConfig, ranges: Ranges | None = None) -> Placement:
    """Return the placement of a network's tensors; ``ranges`` are those that may lie inside others.

    The input is packed as patches where that pays and fits, and is a plain map otherwise; tensors
    lie apart where ranges do not fit. Raise ``CapacityError`` if the network does not fit
    ``act_depth`` in any way.
    """
    for name, tensor in network.stored.items():
        if not isinstance(tensor.format, Wide):
            check_levels(f"tensor {name!r}", tensor.codebook, "activation_level_bits", config)
    planes = {
        name: planes_of(tensor.format, config.code_bits) for name, tensor in network.stored.items()
    }
    readers = (patch_reader(network, item.tensor, planes, config) for item in network.inputs)
    packings = [*(reader for reader in readers if reader is not None), None]
    ways = [Way(one, shared) for shared in ([ranges, {}] if ranges else [{}]) for one in packings]
    needs = [words_needed(requests_of(network, planes, way, config)) for way in ways]
    fitting = [way for way, words in zip(ways, needs, strict=True) if words <= config.act_depth]
    # If none fits, the smallest one's error is the one to report.
    way = fitting[0] if fitting else ways[needs.index(min(needs))]
    return place_as(network, planes, way, config)


def sizes(
    network: IntegerNetwork, planes: dict[str, Planes], way: Way, config: ArrayConfig
) -> dict[str, int]:
    """Return the words of every tensor."""
    words = {
        name: map_layout(tensor, 0, planes[name].count, config).words
        for name, tensor in network.stored.items()
    }
    if way.patched is not None:
        source = network.tensors[way.patched.inputs[0].tensor]
        count = planes[source.name].count
        words[source.name] = patch_layout(way.patched, source, 0, count, config).words
    return words


def place_as(
    network: IntegerNetwork, planes: dict[str, Planes], way: Way, config: ArrayConfig
) -> Placement:
    """Return the placement in one way."""
    tensors = network.stored
    requests = requests_of(network, planes, way, config)
    bases = allocate(requests, config)
    layouts: dict[str, TensorLayout] = {}
    for name, tensor in tensors.items():
        found = root_of(name, way.ranges)
        root, base = found.whole, bases[found.whole] + found.pixel
        whole = map_layout(tensors[root], base, planes[root].count, config)
        part = whole.part(found.group, -(-tensor.shape[2] // config.lanes))
        # What lies in another tensor has pixels that follow one another there, maybe of other rows.
        layouts[name] = replace(part, height=tensor.shape[0], width=tensor.shape[1])
    patches = None
    if way.patched is not None:
        source = tensors[way.patched.inputs[0].tensor]
        base, count = bases[source.name], planes[source.name].count
        patches = patch_layout(way.patched, source, base, count, config)
    used = max(bases[request.name] + request.words for request in requests)
    return Placement(planes, layouts, way.ranges, way.patched, patches, used)


def map_layout(tensor: Tensor, base: int, planes: int, config: ArrayConfig) -> TensorLayout:
    """Return the layout of a tensor as a map from ``base`` on."""
    height, width, channels = tensor.shape
    return TensorLayout.whole(base, height, width, -(-channels // config.lanes), planes)


def patch_layout(
    layer: Layer, source: Tensor, base: int, planes: int, config: ArrayConfig
) -> PatchLayout:
    """Return the layout of the input packed for a convolution, from ``base`` on."""
    op = cast(Conv, layer.op)
    height, width, _ = op.shape(source.shape)
    operands = op.kernel[0] * op.kernel[1] * source.shape[2]
    words = -(-operands // config.lanes)
    return PatchLayout(base, height * width, words, planes, config.acc_depth)


def patch_reader(
    network: IntegerNetwork, source: Tensor, planes: dict[str, Planes], config: ArrayConfig
) -> Layer | None:
    """Return the convolution whose input, one of the network's, the host may pack as patches, or
    None if it stays a map.

    Packing pays when it needs fewer passes; it needs a single reader with one group, and a zero for
    padding taps. Patches are no map, so nothing may add the input either, that reader included.
    """
    readers = [
        layer for layer in network.layers for port in layer.reads if port.tensor == source.name
    ]
    if len(readers) != 1 or readers[0].inputs != (Port(source.name),):
        return None
    op, channels = readers[0].op, source.shape[2]
    if type(op) is not Conv or op.groups != 1:
        return None
    taps = op.kernel[0] * op.kernel[1]
    if -(-taps * channels // config.rows) >= taps * -(-channels // config.rows):
        return None
    if any(op.padding) and zero_digits(planes[source.name], source.codebook.levels) is None:
        return None
    return readers[0]


def requests_of(
    network: IntegerNetwork, planes: dict[str, Planes], way: Way, config: ArrayConfig
) -> list[Request]:
    """Return what each tensor that lies in no other one needs, and from which layer to which it, or
    any of its parts, lives."""
    words = sizes(network, planes, way, config)
    # Constants have their place from the beginning: a LOAD waits for no tile that used it before.
    born = {item.tensor.name: -1 for item in (*network.inputs, *network.constants)}
    # A tile that chases the packed input takes any LOAD of higher addresses for its own.
    patched = None if way.patched is None else way.patched.inputs[0].tensor
    others = frozenset(born) - {patched}
    dies = dict(born)
    for index, layer in enumerate(network.layers):
        for port in layer.reads:
            root = root_of(port.tensor, way.ranges).whole
            dies[root] = max(dies[root], index)
        if layer.output.name in network.stored:
            root = root_of(layer.output.name, way.ranges).whole
            born.setdefault(root, index)
            dies[root] = index
    return [
        Request(name, words[name], born[name], dies[name], others if name == patched else NONE)
        for name in born
    ]


def check_levels(where: str, book: Codebook, name: str, config: ArrayConfig) -> None:
    """Refuse levels beyond the signed bits that the configuration field ``name`` gives them."""
    low, high, bits = int(book.levels[0]), int(book.levels[-1]), getattr(config, name)
    needed = 1 + max(max(high, 0).bit_length(), max(~low, 0).bit_length())
    if needed > bits:
        raise CapacityError(
            f"{where}: levels {low}..{high} must fit {name} {bits}; use {name}={needed}"
        )
