"""Residency: which tables, parameters and descriptors are in the hardware's slots, and the LOADs
that bring them.

Every slot memory is a cache with a known future order: the least recently used slot is replaced,
and the LOAD waits for the last tile that uses what it replaces.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import (
    DESCRIPTOR_SLOTS,
    ENCODER_SLOTS,
    Destination,
    descriptor_words,
    entry_bits,
)
from nupes.compiler.emit.descriptors import Descriptor
from nupes.compiler.emit.instructions import Load
from nupes.compiler.lowering.passes import Second, Target
from nupes.model.errors import CapacityError
from nupes.model.layer import Encoder, Requantize
from nupes.model.planes import Planes

__all__ = ["Entries", "Residency", "Slots", "lane_parameters", "load_of", "search_tree"]

Entries = tuple[Destination, int, Sequence[int]]
"""One LOAD: destination, first address, one integer per entry."""


class Slots:
    """The slots of one memory, and the last tile that uses each."""

    def __init__(self, count: int) -> None:
        self.resident: OrderedDict[Hashable, int] = OrderedDict()
        self.free = list(range(count))[::-1]
        self.last_use = [-1] * count

    def claim(self, key: Hashable) -> tuple[int, bool]:
        """Return the slot of a content, and whether it is already there."""
        slot = self.resident.get(key)
        if slot is not None:
            self.resident.move_to_end(key)
            return slot, True
        slot = self.free.pop() if self.free else self.resident.popitem(last=False)[1]
        self.resident[key] = slot
        return slot, False


class Residency:
    """What the next tile needs: each method returns a slot, and queues the LOADs of what is not
    resident.

    ``take`` hands over the queued LOADs, each with the newest tile that still needs what it
    overwrites (-1: none), and notes that ``tile`` uses all that was asked for since.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.slots = {
            Destination.WEIGHT_TABLE: Slots(config.table_slots),
            Destination.ACTIVATION_TABLE: Slots(config.table_slots),
            Destination.RESIDUAL_TABLE: Slots(config.table_slots),
            Destination.SCALE: Slots(config.param_slots),
            Destination.THRESHOLD: Slots(ENCODER_SLOTS),
            Destination.DESCRIPTOR: Slots(DESCRIPTOR_SLOTS),
            Destination.PRODUCT: Slots(1),
        }
        self.queued: list[tuple[Entries, int, int]] = []
        self.asked: list[tuple[Slots, int]] = []
        self.held: list[tuple[Slots, int]] = []

    def take(self, tile: int) -> list[tuple[Entries, int, int]]:
        """Return each queued LOAD, the tile it waits for, and after how many tiles it is due."""
        queued, self.queued = self.queued, []
        for slots, slot in self.asked:
            slots.last_use[slot] = tile
        self.asked = []
        return queued

    def hold(self) -> None:
        """Keep in mind what the next tile has asked for so far."""
        self.held = list(self.asked)

    def again(self) -> None:
        """Ask for what is kept in mind. Nothing else may have been asked for since, of the same
        memories."""
        self.asked += self.held

    def ask(
        self,
        memory: Destination,
        key: Hashable,
        entries: Callable[[int], list[Entries]],
        ahead: int = 0,
    ) -> int:
        """Return the slot of a content of a slot memory; ``entries`` of the slot's first address
        brings it there.

        The content is due ``ahead`` tiles after the next one.
        """
        slots = self.slots[memory]
        slot, present = slots.claim(key)
        if not present:
            loads = entries(slot << entry_bits(memory, self.config))
            self.queued += [(load, slots.last_use[slot], ahead) for load in loads]
        self.asked.append((slots, slot))
        return slot

    def table(self, memory: Destination, table: np.ndarray) -> int:
        """Return the slot of a decode table, int16 (at most 2**code_bits,)."""
        return self.ask(
            memory, table.tobytes(), lambda address: [(memory, address, table.tolist())]
        )

    def products(self, table: np.ndarray) -> None:
        """Bring the product table of pair cells, int64, in the order of its addresses."""
        memory = Destination.PRODUCT
        self.ask(memory, table.tobytes(), lambda address: [(memory, address, table.tolist())])

    def parameters(
        self, name: str, requantize: Requantize, column: int, second: Second | None
    ) -> int:
        """Return the slot of the parameters of a layer's column tile; ``second`` is what comes
        through the residual port, another tensor for each pair of a sum of products.
        """
        table, offset = 0, None
        if second is not None and second.planes.count == 1:
            table = self.table(Destination.RESIDUAL_TABLE, second.planes.tables[0])
        elif second is not None:
            offset = second.planes.offset

        def entries(address: int) -> list[Entries]:
            scale, shift = lane_parameters(requantize, column, self.config.cols, second, table)
            return [(Destination.SCALE, address, scale), (Destination.SHIFT, address, shift)]

        return self.ask(Destination.SCALE, (name, column, table, offset), entries)

    def encoder(self, name: str, target: Target, ahead: int = 0) -> tuple[int, int]:
        """Return the slot and the depth of the search tree and map of a layer, 0 of a wide one.

        The first results come ``ahead`` tiles after the next one.
        """
        encoder, stages = target.encoder, self.config.encoder_stages
        if encoder is None:
            return 0, 0
        depth = max(1, len(encoder.thresholds).bit_length())
        if depth > stages:
            raise CapacityError(
                f"layer {name!r}: encoder needs {depth} comparisons, but tensor_bits "
                f"{self.config.tensor_bits} gives {stages}; "
                f"use ArrayConfig(tensor_bits={depth - 1})"
            )

        def entries(base: int) -> list[Entries]:
            tree, codes = search_tree(encoder, target.planes, depth)
            return [(Destination.THRESHOLD, base + 1, tree), (Destination.MAP, base, codes)]

        return self.ask(Destination.THRESHOLD, name, entries, ahead), depth

    def descriptor(self, descriptor: Descriptor) -> int:
        """Return the slot of a descriptor."""

        def entries(address: int) -> list[Entries]:
            packed = descriptor.packed
            words = [packed >> (64 * i) & (2**64 - 1) for i in range(descriptor_words(self.config))]
            return [(Destination.DESCRIPTOR, address, words)]

        return self.ask(Destination.DESCRIPTOR, descriptor.packed, entries)


def load_of(entries: Entries, user: int, due: int, config: ArrayConfig) -> Load:
    """Return the LOAD of some entries for tile ``due``, overwriting those of tile ``user``."""
    destination, address, values = entries
    width = -(-config.port_bits // 64)

    def payload() -> np.ndarray:
        words = np.zeros((len(values), width), np.uint64)
        words[:, 0] = np.array([entry & (2**64 - 1) for entry in values], np.uint64)
        return words

    return Load(
        destination=destination,
        address=address,
        words=len(values),
        payload=payload,
        user=user,
        due=due,
    )


def search_tree(encoder: Encoder, planes: Planes, depth: int) -> tuple[list[int], list[int]]:
    """Return the thresholds in tree order (root first) and the joined digits of the map, padded to
    ``depth``.

    Unused thresholds are 32767; their map entries repeat the last code.
    """
    nodes = (1 << depth) - 1
    ordered = np.full(nodes, 32767, np.int64)
    ordered[: len(encoder.thresholds)] = encoder.thresholds
    tree: list[int] = []
    for level in range(depth):
        step = 1 << (depth - level)
        tree += ordered[step // 2 - 1 :: step].tolist()
    joined = planes.joined[encoder.codes]
    codes = np.concatenate([joined, np.full(nodes + 1 - len(joined), joined[-1])])
    return tree, codes.tolist()


def lane_parameters(
    requantize: Requantize, column: int, cols: int, second: Second | None, table: int
) -> tuple[list[int], list[int]]:
    """Return the SCALE and SHIFT entries of a column tile's lanes.

    ``second`` is what comes through the residual port, ``table`` its decode slot; without one the
    residual mult is 0.
    """
    mult_r, shift_r, linear, offset = 0, 1, 0, 0
    if second is not None:
        mult_r, shift_r = second.mult, second.shift
        linear, offset = int(second.planes.count > 1), second.planes.offset
    common = shift_r << 5 | table << 10 | linear << 14 | mult_r << 16 | (offset & 0x1FF) << 32
    channels = slice(column * cols, (column + 1) * cols)
    scale = [
        abs(int(mult)) | (int(bias) & (2**48 - 1)) << 16
        for mult, bias in zip(requantize.mult[channels], requantize.bias[channels], strict=True)
    ]
    negative = requantize.mult[channels] < 0
    pairs = zip(requantize.shift[channels], negative, strict=True)
    return scale, [int(shift) | common | int(sign) << 15 for shift, sign in pairs]
