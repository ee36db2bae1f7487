"""What lies outside the activation memory: STOREs into holes of the program, and the LOADs that
bring it back.

The program is read in order and some words ahead, so a LOAD of what was stored comes behind a
fence, which waits until all that was stored before is in memory, and behind as many words as may
have been read by then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from nupes.arch.config import ArrayConfig
from nupes.arch.isa import Destination
from nupes.compiler.emit.dependencies import Latest, lag_after
from nupes.compiler.emit.descriptors import Descriptor, Results
from nupes.compiler.emit.instructions import Instruction, Load, Store
from nupes.compiler.emit.residency import Residency
from nupes.compiler.emit.streamed import TileSlots
from nupes.compiler.lowering.passes import Bring, Key, Put
from nupes.compiler.lowering.walks import Start, Walk

__all__ = ["Outside", "bind"]

ROW = (1 << 13) - 1
"""Words of a row of the walk with which words are stored: as many as a field holds."""


class Outside:
    """Which holes have been stored since the latest fence, and where that is."""

    descriptor: ClassVar[Descriptor] = Descriptor(
        Walk(step_x=1, width=1, height=1, stride_x=0, out_width=ROW, step_y=ROW), Results()
    )
    """The walk over consecutive words."""

    def __init__(self, config: ArrayConfig, users: Latest, writers: Latest) -> None:
        self.config, self.users, self.writers = config, users, writers
        self.stored: set[Key] = set()
        self.floor = 0  # the next tile when the latest fence was set

    def bring(self, item: Bring, image: int, tile: int) -> Iterator[Load]:
        """Yield the LOAD of some words for tile number ``tile``, the next one, behind a fence if it
        needs one."""
        key = image_key(item.key, image)
        if key in self.stored:
            self.stored.clear()
            self.floor = tile
            yield self.fence()
        run = item.address, item.address + item.words
        user = self.users.newest([run])
        # Whether that tile reads all of it or not: what takes its place must not come before it.
        self.users.note([run], tile)
        yield Load(
            destination=Destination.ACTIVATION,
            address=item.address,
            words=item.words,
            user=user,
            due=tile,
            key=key,
            floor=self.floor,
        )

    def fence(self) -> Load:
        """Return the LOAD that waits for all that was stored, with as many words as the fetch
        buffer holds: so what follows them is read later."""
        words, limbs = self.config.fetch_depth, -(-self.config.port_bits // 64)
        return Load(
            destination=Destination.FENCE,
            address=0,
            words=words,
            payload=lambda: np.zeros((words, limbs), np.uint64),
            lag=0,
        )

    def put(self, item: Put, image: int, tile: int, residency: Residency) -> Store:
        """Return the STORE of some words, number ``tile`` of the tiles."""
        key = image_key(item.key, image)
        self.stored.add(key)
        after = self.writers.newest([(item.address, item.address + item.words)])
        return Store(
            start=Start(item.address, item.address),
            descriptor=self.descriptor,
            slots=TileSlots(descriptor=residency.descriptor(self.descriptor)),
            count=item.words,
            after=after,
            lag=lag_after(after, tile),
            key=key,
            offset=item.offset,
        )


def image_key(key: Key, image: int) -> Key:
    """Return the key of the same words of an image of a batch."""
    return (image, *key[1:])


def bind(program: Sequence[Instruction], config: ArrayConfig) -> list[Instruction]:
    """Return a program whose STOREs know where the holes lie that they fill."""
    places: dict[Key, int] = {}
    position = 0
    for item in program:
        position += 0 if item.follows else config.instruction_words
        if isinstance(item, Load) and item.key is not None:
            places[item.key] = position
        position += item.words
    return [
        replace(item, place=places[item.key] + item.offset) if isinstance(item, Store) else item
        for item in program
    ]
