"""Where the cycles go: bounds and losses of every layer, from the exact timeline."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

from nupes.arch.config import ArrayConfig
from nupes.compiler.emit.instructions import Instruction, Load, Store, Streamed, Streaming
from nupes.compiler.emit.schedules import Schedule
from nupes.compiler.timing.timeline import Timeline
from nupes.model.network import IntegerNetwork

__all__ = ["LayerReport", "Losses", "layer_parts", "report"]


@dataclass(frozen=True)
class Losses:
    """The cycles of a layer beyond its MACs at full rate; with those they add up to its cycles.

    ``edge``: cells without an operand while a tile streams (channel and pixel edges, the steps of
    chains before a row's first pixel, layers without MACs). ``requantization``: results that take
    more than one write. ``weights``: waiting for weights or parameters although memory kept up.
    ``memory``: waiting for memory, the input included. ``dependency``: waiting for earlier results,
    and the pipeline's fill and drain.
    """

    edge: float
    requantization: int
    weights: int
    memory: int
    dependency: int


@dataclass(frozen=True)
class LayerReport:
    """One layer on the array, in cycles unless said otherwise: of a batch, for all its images.

    ``macs`` counts real multiply-accumulates, ``tiles`` instructions that stream, ``words`` port
    words of its part of the program. ``mac_bound`` is MACs over cells; ``tile_bound`` the streamed
    words, at least ``rows`` per weight tile; ``memory_bound`` the words at one a cycle. ``stored``
    and ``loaded`` are the words of spilled tensors that it stores in the program's memory, and
    loads from there.
    """

    name: str
    cycles: int
    macs: int
    tiles: int
    words: int
    mac_bound: float
    tile_bound: int
    losses: Losses
    stored: int = 0
    loaded: int = 0

    @property
    def memory_bound(self) -> int:
        """Cycles that the memory port needs for the layer's words."""
        return self.words

    @property
    def utilization(self) -> float:
        """Real MACs per cell and cycle, 0 to 1."""
        return self.mac_bound / max(self.cycles, 1)

    def as_dict(self) -> dict:
        """Return everything as JSON data."""
        return asdict(self) | {
            "memory_bound": self.memory_bound,
            "utilization": self.utilization,
        }


def report(
    network: IntegerNetwork, plan: Schedule, timeline: Timeline, config: ArrayConfig
) -> tuple[LayerReport, ...]:
    """Return one report per layer, in execution order; their cycles add up to the run's.

    A layer without instructions takes no cycles.
    """
    edges = iter([*timeline.marks[1:], timeline.cycles])
    parts: dict[int, list[LayerReport]] = {}
    first = start = 0
    for index, part in zip(plan.layers, layer_parts(plan), strict=True):
        tiles = [item for item in part if isinstance(item, Streamed)]
        name = network.layers[index].name
        stop = next(edges) if tiles else start
        # Those of all images at once, where the layer is one part.
        count = network.macs[name] * plan.images // plan.layers.count(index)
        mac_bound = count / (config.rows * config.cols)
        losses = lose(tiles, first, timeline, start, stop, mac_bound)
        bound = sum(max(tile.streamed, config.rows) for tile in tiles)
        parts.setdefault(index, []).append(
            LayerReport(
                name,
                stop - start,
                count,
                len(tiles),
                sum(item.words + config.instruction_words * (not item.follows) for item in part),
                mac_bound,
                bound,
                losses,
                stored=sum(tile.count for tile in tiles if isinstance(tile, Store)),
                loaded=sum(
                    item.words for item in part if isinstance(item, Load) and item.key is not None
                ),
            )
        )
        first, start = first + len(tiles), stop
    return tuple(add(parts[index]) for index in range(len(network.layers)))


def add(parts: Sequence[LayerReport]) -> LayerReport:
    """Return the report of a layer of several parts."""
    if len(parts) == 1:
        return parts[0]
    kinds = [item.name for item in fields(Losses)]
    losses = Losses(**{kind: sum(getattr(item.losses, kind) for item in parts) for kind in kinds})
    numbers = ("cycles", "macs", "tiles", "words", "mac_bound", "tile_bound", "stored", "loaded")
    sums = {number: sum(getattr(item, number) for item in parts) for number in numbers}
    return LayerReport(name=parts[0].name, losses=losses, **sums)


def layer_parts(plan: Schedule) -> Iterator[list[Instruction]]:
    """Yield the instructions of each part of the program; LOADs count for the tile that follows
    them, and the END for the last tile."""
    program = iter(plan.instructions)
    last = max((index for index, count in enumerate(plan.tiles) if count), default=0)
    for index, count in enumerate(plan.tiles):
        part: list[Instruction] = []
        tiles = 0
        while tiles < count or index == last:
            item = next(program, None)
            if item is None:
                break
            part.append(item)
            tiles += isinstance(item, Streamed)
        yield part


def lose(
    tiles: list[Streaming],
    first: int,
    timeline: Timeline,
    start: int,
    stop: int,
    mac_bound: float,
) -> Losses:
    """Attribute a layer's cycles; ``first`` is the index of its first tile.

    A layer's cycles begin with its first word (the first layer's with the start) and end with the
    next one's, so the wait before a layer's first word belongs to the layer before.
    """
    streamed = requantization = weights = memory = 0
    for offset, tile in enumerate(tiles):
        index = first + offset
        words = tile.streamed
        pace = tile.stream_cycles - words
        streamed += words
        requantization += pace
        issued = timeline.final_issue[index] - timeline.first_issue[index] + 1
        memory += issued - words - pace  # a stream that chases the input
    edges = range(first + (first > 0), first + len(tiles) + 1)
    for index in edges if tiles else ():
        if index >= len(timeline.first_issue):
            continue
        before = timeline.final_issue[index - 1] if index else start
        pace = tiles[index - 1 - first].pace - 1 if index else 0
        gap = timeline.first_issue[index] - before - 1
        held = min(gap, pace)
        late = min(max(timeline.dispatch[index] - before, 0), gap - held)
        starved = min(late, timeline.memory_wait[index])
        requantization += held
        memory += starved
        weights += late - starved
    known = streamed + requantization + weights + memory
    return Losses(
        edge=streamed - mac_bound,
        requantization=requantization,
        weights=weights,
        memory=memory,
        dependency=stop - start - known,
    )
