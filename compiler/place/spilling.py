"""Spilling: which tensors lie in the program instead of the activation memory, and the bands in
which the layers that read or write them run.

A band is some pixels of a layer's result, one behind the other. Of a spilled tensor only the words
that a band reads or writes are in memory, in a buffer that exists while the layer runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nupes.arch.config import ArrayConfig
from nupes.compiler.place.layout import Run, TensorLayout, blocks
from nupes.compiler.place.memory import Request, words_needed

__all__ = ["NOTHING", "Bands", "Buffer", "Planner", "Spilling", "Uses", "choose", "settle"]

COPIES = 2
"""Buffers of a tensor that is read, so that one is filled while the other is read; where they are
so small that this takes longer, there is one."""

MOST_PART = 128
"""Words that one LOAD brings at most: so few that the array seldom waits for one of the next
band."""

LEAST_PART = 32
"""Words that it brings, where there are so many."""

FILL = 64
"""About how many cycles a band takes besides: until its results are written, and may be stored."""


@dataclass(frozen=True, eq=False)
class Uses:
    """What a layer reads of its inputs, by the pixels of its result.

    ``pixels`` of the result, of which bands have a multiple of ``unit``, but for the last one;
    ``reads`` returns, for some pixels of the result, those of each tensor; ``output`` is the tensor
    that it writes, if it is stored.
    """

    pixels: int
    unit: int
    reads: Mapping[str, Callable[[Run], Run]]
    output: str | None

    @property
    def tensors(self) -> list[str]:
        """What it reads and writes."""
        return [*self.reads, *([self.output] if self.output is not None else [])]

    def bands(self, units: int) -> Iterator[Run]:
        """Yield the pixels of bands of so many units."""
        for first, count in blocks(self.pixels, units * self.unit):
            yield first, first + count


@dataclass(frozen=True)
class Buffer:
    """Places of ``pixels`` of a tensor from ``base`` on, ``copies`` of them."""

    pixels: int
    groups: int
    planes: int
    copies: int
    base: int = 0

    @property
    def plane_step(self) -> int:
        """Words from a plane to the next one: odd, as in a whole tensor."""
        return self.groups * self.pixels | 1

    @property
    def size(self) -> int:
        """Words of one copy."""
        return (self.planes - 1) * self.plane_step + self.groups * self.pixels

    @property
    def words(self) -> int:
        """Words of all copies."""
        return self.copies * self.size

    def place(self, whole: TensorLayout, band: int, first: int) -> TensorLayout:
        """Return the layout of the tensor as if all of it were there, for a band whose pixels begin
        with ``first``."""
        base = self.base + band % self.copies * self.size - first
        return replace(whole, base=base, plane_step=self.plane_step, group_step=self.pixels)


@dataclass(frozen=True, eq=False)
class Bands:
    """How a layer runs: the pixels of each band of its result, those that each reads of spilled
    tensors, and the buffers of what it reads and writes of such. A LOAD brings a ``part`` of so
    many words, or what is left of a plane of a channel group."""

    pixels: tuple[Run, ...]
    reads: Mapping[str, tuple[Run, ...]]
    buffers: Mapping[str, Buffer]
    part: int


@dataclass(frozen=True, eq=False)
class Spilling:
    """The tensors that lie in the program, and the bands of each layer that touches one, by its
    number."""

    tensors: frozenset[str]
    bands: Mapping[int, Bands]

    def readers(self, name: str) -> Iterator[tuple[int, Bands]]:
        """Yield the layers that read a tensor, and their bands."""
        for index, bands in self.bands.items():
            if name in bands.reads:
                yield index, bands


NOTHING = Spilling(frozenset(), {})
"""Where everything fits."""


def choose(
    planner: "Planner", able: Callable[[str], bool]
) -> tuple[Spilling, list[Request]] | None:
    """Return what to spill, and the requests of all that is in memory then; ``None`` if that does
    not help. Only tensors that are ``able`` may lie in the program."""
    chosen: set[str] = set()
    while not planner.fits(chosen):
        worst = planner.fullest(chosen)
        there = [item for item in planner.live(worst, chosen) if able(item.name)]
        if not there:
            return None
        chosen.add(max(there, key=lambda item: item.words).name)
    for name in sorted(chosen, key=lambda name: -planner.words[name]):
        if planner.fits(chosen - {name}):
            chosen.remove(name)
    return planner.plan(chosen)


class Planner:
    """Requests of a network some of whose tensors are spilled.

    ``requests`` are those of all tensors, ``shapes`` their words per pixel and their planes.
    ``layers`` are the tensors that each layer touches, ``uses`` says how; all layers that touch one
    that is spilled have uses.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        shapes: Mapping[str, tuple[int, int]],
        layers: Sequence[frozenset[str]],
        uses: Callable[[int], Uses | None],
        config: ArrayConfig,
    ) -> None:
        self.requests, self.shapes, self.config = requests, shapes, config
        self.depth = config.act_depth
        self.layers, self.uses = layers, uses
        self.words = {item.name: item.words for item in requests}

    def touched(self, chosen: set[str]) -> Iterator[tuple[int, Uses]]:
        """Yield the layers that read or write a spilled tensor."""
        for index, names in enumerate(self.layers):
            uses = self.uses(index) if chosen & names else None
            if uses is not None:
                yield index, uses

    def buffers(self, uses: Uses, chosen: set[str], units: int, copies: int) -> dict[str, Buffer]:
        """Return the buffers of a layer with bands of so many units."""
        found = {}
        for name in dict.fromkeys(uses.tensors):
            if name not in chosen:
                continue
            bands, written = list(uses.bands(units)), name == uses.output
            runs = bands if written else [uses.reads[name](band) for band in bands]
            pixels = max(stop - first for first, stop in runs)
            found[name] = Buffer(pixels, *self.shapes[name], 1 if written else copies)
        return found

    def residents(self, chosen: set[str]) -> list[Request]:
        """Return the requests of what is in memory as a whole."""
        return [item for item in self.requests if item.name not in chosen]

    def fits(self, chosen: set[str]) -> bool:
        """Whether the memory holds what is left, with the smallest bands."""
        residents = self.residents(chosen)
        if words_needed(residents) > self.depth:
            return False
        return all(
            self.has_room(residents, index, self.buffers(uses, chosen, 1, 1))
            for index, uses in self.touched(chosen)
        )

    def has_room(self, residents: list[Request], index: int, buffers: dict[str, Buffer]) -> bool:
        """Whether the memory holds the buffers of a layer besides."""
        # Buffers of other layers are there at other times.
        return words_needed([*residents, *claims(index, buffers)]) <= self.depth

    def fullest(self, chosen: set[str]) -> int:
        """Return the layer that needs most words: a whole number from -1, the inputs, on."""
        layers = range(-1, len(self.layers))
        sums = [sum(item.words for item in self.live(index, chosen)) for index in layers]
        for index, uses in self.touched(chosen):
            sums[index + 1] += sum(item.words for item in self.buffers(uses, chosen, 1, 1).values())
        return layers[sums.index(max(sums))]

    def live(self, index: int, chosen: set[str]) -> list[Request]:
        """Return the requests of what is there while a layer runs."""
        return [item for item in self.residents(chosen) if item.born <= index <= item.dies]

    def plan(self, chosen: set[str]) -> tuple[Spilling, list[Request]]:
        """Return the bands of every layer that touches a spilled tensor, as large as pays, and all
        requests."""
        residents = self.residents(chosen)
        bands, requests = {}, list(residents)
        for index, uses in self.touched(chosen):
            units, buffers = self.best(residents, index, uses, chosen)
            pixels = tuple(uses.bands(units))
            reads = {
                name: tuple(map(read, pixels))
                for name, read in uses.reads.items()
                if name in chosen
            }
            part = min(MOST_PART, max(LEAST_PART, self.idle(uses, units)))
            bands[index] = Bands(pixels, reads, buffers, part)
            requests += claims(index, buffers)
        return Spilling(frozenset(chosen), bands), requests

    def best(
        self, residents: list[Request], index: int, uses: Uses, chosen: set[str]
    ) -> tuple[int, dict[str, Buffer]]:
        """Return the units of a layer's bands, and its buffers, with which it takes the fewest
        cycles besides those of its tiles."""
        all_units, found = -(-uses.pixels // uses.unit), []
        for copies in range(1, COPIES + 1):
            low, high = 0, all_units
            while low < high:
                middle = (low + high + 1) // 2
                if self.has_room(residents, index, self.buffers(uses, chosen, middle, copies)):
                    low = middle
                else:
                    high = middle - 1
            if low:
                # Bands of the same size.
                units = -(-all_units // -(-all_units // low))
                cost = self.cost(uses, chosen, units, copies)
                found.append((cost, units, self.buffers(uses, chosen, units, copies)))
        _, units, buffers = min(found, key=lambda item: item[0])
        return units, buffers

    def idle(self, uses: Uses, units: int) -> int:
        """Return about how many words may be loaded while a tile of a band streams."""
        config = self.config
        pixels = min(uses.pixels, units * uses.unit, config.acc_depth)
        return pixels - config.rows * (1 + config.joins_weights) - 3 * config.instruction_words

    def cost(self, uses: Uses, chosen: set[str], units: int, copies: int) -> int:
        """Return about how many cycles bands take besides their tiles: each word that is read has
        been stored before, and is loaded while the array waits if there is one buffer for it, or
        no time beside the tiles."""
        cycles, hidden = 0, copies == COPIES and self.idle(uses, units) >= LEAST_PART
        for band in uses.bands(units):
            cycles += FILL
            for name, read in uses.reads.items():
                if name in chosen:
                    (first, stop), (groups, planes) = read(band), self.shapes[name]
                    cycles += (stop - first) * groups * planes * (2 - hidden)
        return cycles


def claims(index: int, buffers: Mapping[str, Buffer]) -> list[Request]:
    """Return the requests of a layer's buffers."""
    return [
        Request(claim_name(name, index), item.words, index, index, last=True)
        for name, item in buffers.items()
    ]


def claim_name(name: str, index: int) -> str:
    """Return the name of the request of a layer's buffer."""
    return f"{name} in layer {index}"


def settle(spilling: Spilling, bases: Mapping[str, int]) -> Spilling:
    """Return what is spilled with the places of all buffers."""
    bands = {
        index: replace(
            item,
            buffers={
                name: replace(buffer, base=bases[claim_name(name, index)])
                for name, buffer in item.buffers.items()
            },
        )
        for index, item in spilling.bands.items()
    }
    return replace(spilling, bands=bands)
