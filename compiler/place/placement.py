"""Placement: which planes every tensor has, where it lies in the activation memory, and whether the
input is packed.
"""

from dataclasses import dataclass, replace

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.batches import Batch, share_most
from nupes.compiler.place.layout import TensorLayout
from nupes.compiler.place.memory import Request, allocate, words_needed
from nupes.compiler.place.patching import Packing, packable, packings
from nupes.compiler.place.ranges import Ranges, root_of
from nupes.compiler.place.strips import Strips, strips_of
from nupes.model.codebook import Codebook
from nupes.model.errors import CapacityError
from nupes.model.network import IntegerNetwork
from nupes.model.planes import Planes, planes_of
from nupes.model.tensor import Tensor, Wide

__all__ = ["Placement", "check_levels", "place"]


NONE: frozenset[str] = frozenset()


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
) -> Placement:
    """Return the placement of a network's tensors; ``ranges`` are those that may lie inside others.

    The input is packed as patches where that pays and fits, as a whole or a block at a time, and is
    a plain map otherwise, but where only smaller blocks fit; tensors lie apart where ranges do not
    fit. Of ``images`` the first ``apart`` layers run one by one, and those that read a packed
    input; more where memory does not hold the tensors of all images. Raise ``CapacityError`` if the
    network does not fit ``act_depth`` in any way.
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
    way = next(fitting, None) or min(ways, key=words)

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
    tensors = network.stored
    requests = requests_of(network, planes, way, config, batch)
    images = {item.name: item.images for item in requests}
    bases = allocate(requests, config)
    layouts: dict[str, TensorLayout] = {}
    for name, tensor in tensors.items():
        found = root_of(name, way.ranges)
        root, base = found.whole, bases[found.whole] + found.pixel
        whole = map_layout(tensors[root], base, planes[root].count, config, images[root])
        part = whole.part(found.group, -(-tensor.shape[2] // config.lanes))
        # What lies in another tensor has pixels that follow one another there, maybe of other rows.
        layouts[name] = replace(part, height=tensor.shape[0], width=tensor.shape[1])
    packing = way.packing
    if isinstance(packing, Strips):
        layouts[packing.source.name] = packing.layout(bases[packing.source.name], config)
    elif packing is not None:
        patches = replace(packing.patches, base=bases[packing.source.name])
        packing = replace(packing, patches=patches)
    used = max(bases[request.name] + request.words for request in requests)
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
