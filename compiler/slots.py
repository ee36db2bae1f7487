"""Slots: resident tables, parameters and descriptors, replaced least recently used first."""

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Slots"]


class Slots:
    """The slots of one memory, and the last tile that uses each.

    ``find`` returns ``(slot, missing, last_user)``: whether the content must be loaded, and the
    newest tile that still needs what the slot held before (-1: none).
    """

    def __init__(self, count: int) -> None:
        self.resident: OrderedDict[Hashable, int] = OrderedDict()
        self.free = list(range(count))[::-1]
        self.last_use = [-1] * count

    def find(self, key: Hashable) -> tuple[int, bool, int]:
        """Return the slot of a content, claiming one if it is not resident."""
        if key in self.resident:
            self.resident.move_to_end(key)
            return self.resident[key], False, -1
        slot = self.free.pop() if self.free else self.resident.popitem(last=False)[1]
        self.resident[key] = slot
        return slot, True, self.last_use[slot]

    def use(self, slot: int, tile: int) -> None:
        """Note that a tile uses the slot."""
        self.last_use[slot] = tile
