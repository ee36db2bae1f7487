"""Placement: which planes every tensor has, where it lies in the activation memory, and whether the
input is packed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.batches import Batch, share_most
from nupes.compiler.place.layout import TensorLayout
from nupes.compiler.place.memory import Request, allocate, words_needed
from nupes.compiler.place.patching import Packing, packable, packings
from nupes.compiler.place.ranges import Ranges, root_of
from nupes.compiler.place.spilling import NOTHING, Planner, Spilling, Uses, choose, settle
from nupes.compiler.place.strips import Strips, strips_of
from nupes.model.codebook import Codebook
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from nupes.model.planes import Planes, planes_of
from nupes.model.tensor import Tensor, Wide

__all__ = ["Placement", "check_levels", "place"]


NONE: frozenset[str] = frozenset()

FAR = 1 << 32
"""Words from a tensor to the next one, where they are in no memory yet: more than any has."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Planes and layout of every tensor; ``ranges`` tells those that lie inside others,
    ``packing`` how the host packs an input as patches or strips, if it does, ``batch`` which
    layers run for all images at once.
    """

    planes: dict[str, Planes]
    layouts: dict[str, TensorLayout]
    ranges: Ranges
    packing: Packing | Strips | None
    act_words: int
    batch: Batch
    spilling: Spilling = NOTHING

    def at(self, layer: int) -> "Placement":
        """Return the placement as a layer sees it: spilled tensors are in its buffers, as if all of
        each were there behind its first pixel."""
        if layer not in self.spilling.bands:
            return self
        buffers = self.spilling.bands[layer].buffers
        there = {name: item.place(self.layouts[name], 0, 0) for name, item in buffers.items()}
        return replace(self, layouts=self.layouts | there)

    def image(self, index: int) -> "Placement":
        """Return the placement of one image of a batch."""
        layouts = {name: layout.image(index) for name, layout in self.layouts.items()}
        return replace(self, layouts=layouts)

    def packing_of(self, name: str) -> Packing | Strips | None:
        """Return how the host packs a tensor, if it does."""
        packing = self.packing
        return packing if packing is not None and packing.source.name == name else None


@dataclass(frozen=True, eq=False)
class Way:
    """A way to place a network: an input packed or none, and ``ranges``."""

    packing: Packing | Strips | None
    ranges: Ranges


def place(
    network: IntegerNetwork,
    config: ArrayConfig,
    ranges: Ranges | None = None,
    images: int = 1,
    apart: int = 0,
    uses_of: Callable[[int, Placement], Uses | None] | None = None,
) -> Placement:
    """Return the placement of a network's tensors; ``ranges`` are those that may lie inside others.

    The input is packed as patches where that pays and fits, as a whole or a block at a time, and is
    a plain map otherwise, but where only smaller blocks fit; tensors lie apart where ranges do not
    fit. Of ``images`` the first ``apart`` layers run one by one, and those that read a packed
    input; more where memory does not hold the tensors of all images. If ``uses_of`` tells what
    layers do, by their numbers, tensors may be spilled where nothing else fits. Raise
    ``CapacityError`` if the network does not fit ``act_depth`` in any way.
    """
    for name, tensor in network.stored.items():
        if not isinstance(tensor.format, Wide):
            check_levels(f"tensor {name!r}", tensor.codebook, "activation_level_bits", config)
    planes = {
        name: planes_of(tensor.format, config.code_bits) for name, tensor in network.stored.items()
    }
    fast, slow = packings(network, planes, config)
    fast = [*strips(network, planes, config), *fast]
    places = [ranges, {}] if ranges else [{}]
    ways = [Way(one, shared) for shared in places for one in (*fast, None)]
    ways += [Way(one, shared) for shared in places for one in slow]

    layers = len(network.layers)
    one_by_one = Batch(images, layers)

    def words(way: Way, batch: Batch = one_by_one) -> int:
        return words_needed(requests_of(network, planes, way, config, batch))

    fitting = (way for way in ways if words(way) <= config.act_depth)
    # If none fits, the smallest one's error is the one to report.
    way = next(fitting, None)
    if way is None and uses_of is not None:
        for packing in dict.fromkeys(one.packing for one in ways):
            found = spill(network, planes, Way(packing, {}), config, one_by_one, uses_of)
            if found is not None:
                return found
    way = way or min(ways, key=words)

    def shared(way: Way) -> Batch:
        least = apart
        if way.packing is not None:
            least = max(apart, 1 + network.layers.index(way.packing.reader))
        return share_most(
            images, least, layers, lambda batch: words(way, batch) <= config.act_depth
        )

    if images > 1 and way.packing in fast:
        # A packed input in smaller blocks leaves room for tensors of all images.
        others = [Way(packing, way.ranges) for packing in fast[fast.index(way.packing) :]]
        fitting = [one for one in others if words(one) <= config.act_depth]
        way = min(fitting or [way], key=lambda one: shared(one).apart)
    return place_as(network, planes, way, config, shared(way))


def spill(
    network: IntegerNetwork,
    planes: dict[str, Planes],
    way: Way,
    config: ArrayConfig,
    batch: Batch,
    uses_of: Callable[[int, Placement], Uses | None],
) -> Placement | None:
    """Return the placement in one way of a network some of whose tensors are spilled, ``None`` if
    that does not fit either."""
    requests = requests_of(network, planes, way, config, batch)
    apart = place_at(network, planes, way, config, batch, requests, far_apart(requests))
    layers = [
        frozenset([*(port.tensor for port in layer.reads), layer.output.name])
        for layer in network.layers
    ]
    fixed = {item.tensor.name for item in (*network.inputs, *network.constants)}

    @cache
    def uses(index: int) -> Uses | None:
        return uses_of(index, apart)

    @cache
    def able(name: str) -> bool:
        chased = way.packing is not None and way.packing.chased
        first = network.layers.index(way.packing.reader) if way.packing and chased else -1
        # What is loaded would move the write pointer, which tiles chase.
        touching = [index for index, names in enumerate(layers) if name in names]
        readers = [i for i in touching if network.layers[i].output.name != name]
        late = min(readers, default=first) > first
        return name not in fixed and late and all(uses(index) is not None for index in touching)

    shapes = {
        name: (-(-tensor.shape[2] // config.lanes), planes[name].count)
        for name, tensor in network.stored.items()
    }
    found = choose(Planner(requests, shapes, layers, uses, config), able)
    if found is None:
        return None
    spilling, needed = found
    bases = allocate(needed, config)
    whole = {name: bases.get(name, 0) for name in network.stored}
    placement = place_at(network, planes, way, config, batch, needed, whole)
    return replace(placement, spilling=settle(spilling, bases))


def far_apart(requests: list[Request]) -> dict[str, int]:
    """Return base addresses with which every tensor has its own, in no memory."""
    return {item.name: index * FAR for index, item in enumerate(requests)}


def strips(network: IntegerNetwork, planes: dict[str, Planes], config: ArrayConfig) -> list[Strips]:
    """Return the ways to pack one of a network's inputs as strips that beat all others."""
    return [
        item
        for source in (item.tensor for item in network.inputs)
        for reader in packable(network, source, planes, config)
        for item in strips_of(reader, source, planes[source.name].count, config)
    ]


def sizes(
    network: IntegerNetwork,
    planes: dict[str, Planes],
    way: Way,
    config: ArrayConfig,
    images: dict[str, int],
) -> dict[str, int]:
    """Return the words of every tensor; some hold several ``images``."""
    words = {
        name: map_layout(tensor, 0, planes[name].count, config, images.get(name, 1)).words
        for name, tensor in network.stored.items()
    }
    if way.packing is not None:
        words[way.packing.source.name] = way.packing.words(config)
    return words


def place_as(
    network: IntegerNetwork,
    planes: dict[str, Planes],
    way: Way,
    config: ArrayConfig,
    batch: Batch,
) -> Placement:
    """Return the placement in one way."""
    requests = requests_of(network, planes, way, config, batch)
    bases = allocate(requests, config)
    return place_at(network, planes, way, config, batch, requests, bases)


def place_at(
    network: IntegerNetwork,
    planes: dict[str, Planes],
    way: Way,
    config: ArrayConfig,
    batch: Batch,
    requests: list[Request],
    bases: dict[str, int],
) -> Placement:
    """Return the placement in one way, given the base of every tensor that lies in no other one."""
    tensors = network.stored
    images = {item.name: item.images for item in requests}
    layouts: dict[str, TensorLayout] = {}
    for name, tensor in tensors.items():
        found = root_of(name, way.ranges)
        root, base = found.whole, bases[found.whole] + found.pixel
        whole = map_layout(tensors[root], base, planes[root].count, config, images.get(root, 1))
        part = whole.part(found.group, -(-tensor.shape[2] // config.lanes))
        # What lies in another tensor has pixels that follow one another there, maybe of other rows.
        layouts[name] = replace(part, height=tensor.shape[0], width=tensor.shape[1])
    packing = way.packing
    if isinstance(packing, Strips):
        layouts[packing.source.name] = packing.layout(bases[packing.source.name], config)
    elif packing is not None:
        patches = replace(packing.patches, base=bases[packing.source.name])
        packing = replace(packing, patches=patches)
    used = max(bases.get(request.name, 0) + request.words for request in requests)
    return Placement(planes, layouts, way.ranges, packing, used, batch)


def map_layout(
    tensor: Tensor, base: int, planes: int, config: ArrayConfig, images: int
) -> TensorLayout:
    """Return the layout of a tensor as a map from ``base`` on, or that of several images."""
    height, width, channels = tensor.shape
    return TensorLayout.whole(base, height, width, -(-channels // config.lanes), planes, images)


def requests_of(
    network: IntegerNetwork,
    planes: dict[str, Planes],
    way: Way,
    config: ArrayConfig,
    batch: Batch,
) -> list[Request]:
    """Return what each tensor that lies in no other one needs, and from which layer to which it, or
    any of its parts, lives."""
    # Constants have their place from the beginning: a LOAD waits for no tile that used it before.
    born = {item.tensor.name: -1 for item in (*network.inputs, *network.constants)}
    # A tile that chases the packed input takes any LOAD of higher addresses for its own.
    packing = way.packing
    patched = None if packing is None or not packing.chased else packing.source.name
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
    images = dict.fromkeys(born, 1)
    if batch.images > 1:
        constants = {item.tensor.name for item in network.constants}
        # Every image needs the constants.
        dies |= {name: max(dies[name], batch.apart - 1) for name in constants}
        for name in born.keys() - constants:
            if dies[name] >= batch.apart:
                images[name] = batch.images
                born[name] = -1 if born[name] < batch.apart else born[name]
    words = sizes(network, planes, way, config, images)
    return [
        Request(
            name,
            words[name],
            born[name],
            dies[name],
            others if name == patched else NONE,
            images[name],
        )
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
