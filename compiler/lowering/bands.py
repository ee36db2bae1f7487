"""Bands: a layer's work, cut into parts of its result's pixels, each with what it needs of spilled
tensors in memory.

A band reads and writes buffers as if they were the whole tensors: only their first addresses differ
from band to band.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from nupes.arch.config import ArrayConfig
from nupes.compiler.lowering.context import Context
from nupes.compiler.lowering.passes import (
    ArrayWork,
    Bring,
    Column,
    MapStream,
    Pass,
    PatchStream,
    Payload,
    PoolWork,
    Put,
    Second,
    Step,
    Work,
)
from nupes.compiler.lowering.walks import Walk
from nupes.compiler.place.layout import Region, Run, TensorLayout, blocks
from nupes.compiler.place.spilling import Bands, Spilling, Uses
from nupes.model.layer import Layer

__all__ = ["in_bands", "uses_of"]

Reads = Callable[[Run], Run]


def uses_of(layer: Layer, works: Sequence[Work], context: Context) -> Uses | None:
    """Return what a layer's work reads, by the pixels of its result; ``None`` if it does not run in
    bands. Tensors must lie apart in the context's placement."""
    names = {context.placement.layouts[name].base: name for name in context.placement.layouts}
    height, width, _ = layer.output.shape
    region, found, unit = Region(height, width), defaultdict(list), width
    blocked, most = False, context.config.acc_depth
    for work in works:
        if isinstance(work, PoolWork):
            whole = (work.target.height, work.target.width) == (height, width)
            layouts = [(work.source, MapReads.of(stream, 0)) for stream in work.streams]
        elif isinstance(work, ArrayWork) and plain(work, region):
            passes = [item for column in work.columns for item in column.passes]
            layouts, whole = list(reads_of(work, passes, region)), True
            if any(isinstance(item.stream, PatchStream) for item in passes) or work.block:
                unit = max(unit if blocked else 0, work.block[1] if work.block else most)
                blocked = True
        else:
            return None
        for layout, reads in layouts:
            found[owner(layout, names)].append((layout, reads))
        if not whole:
            return None
    output = layer.output.name if layer.output.name in context.placement.layouts else None
    if output in found or None in found:
        return None
    wholes = {name: context.placement.layouts[name] for name in found}
    parts = [
        layout
        for name, pairs in found.items()
        for layout, _ in pairs
        if (layout.height, layout.width) != (wholes[name].height, wholes[name].width)
    ]
    if parts:
        return None
    reads = {
        name: joined(tuple(dict.fromkeys(each for _, each in pairs)))
        for name, pairs in found.items()
    }
    return Uses(height * width, unit, reads, output)


def plain(work: ArrayWork, region: Region) -> bool:
    """Whether work is done pixel by pixel of the whole result, with weights from the program."""
    factors = work.statistics is not None or work.gathers is not None
    return (
        work.region == region
        and not factors
        and all(
            isinstance(item.stationary, Payload)
            and item.count is None
            and (isinstance(item.stream, PatchStream) or type(item.stream.walk) is Walk)
            for column in work.columns
            for item in column.passes
        )
    )


def reads_of(
    work: ArrayWork, passes: Sequence[Pass], region: Region
) -> Iterator[tuple[TensorLayout, Reads]]:
    """Yield what is read of which layout."""
    for item in passes:
        if isinstance(item.stream, MapStream):
            yield item.stream.layout, MapReads.of(item.stream, item.warm_up)
    for second in (work.finish.residual, *(item.times for item in passes)):
        if second is not None:
            pixels = second.layout.pixels
            same = pixels == region.pixels and second.layout.width == region.columns
            yield second.layout, SameReads(None if same else pixels)


@dataclass(frozen=True)
class MapReads:
    """Which pixels of a map a stream reads: whole rows."""

    walk: Walk
    y: int
    warm_up: int
    height: int
    width: int

    @classmethod
    def of(cls, stream: MapStream, warm_up: int) -> "MapReads":
        """Return what a stream reads of its map."""
        layout = stream.layout
        return cls(stream.walk, stream.y, warm_up, layout.height, layout.width)

    def __call__(self, run: Run) -> Run:
        rows = self.walk.rows(self.y, run[0], run[1] - run[0], self.warm_up)
        top, bottom = max(rows[0], 0), min(rows[1], self.height)
        return top * self.width, max(top, bottom) * self.width


@dataclass(frozen=True)
class SameReads:
    """The same pixels as those of the result, or all that there are."""

    pixels: int | None

    def __call__(self, run: Run) -> Run:
        return run if self.pixels is None else (0, self.pixels)


def joined(parts: Sequence[Reads]) -> Reads:
    """Return what all of some read together."""

    @cache
    def reads(run: Run) -> Run:
        runs = [part for part in (each(run) for each in parts) if part[0] < part[1]] or [(0, 0)]
        return min(first for first, _ in runs), max(stop for _, stop in runs)

    return reads


def owner(layout: TensorLayout, names: dict[int, str]) -> str | None:
    """Return the tensor that a layout is all, or channels, of."""
    bases = [base for base in names if base <= layout.base]
    return names[max(bases)] if bases else None


def in_bands(
    index: int, works: Sequence[Work], context: Context, spilling: Spilling, output: str
) -> Iterator[Step]:
    """Yield the work of layer number ``index`` in its bands: what it reads of spilled tensors comes
    before each, what it writes of such goes behind each."""
    bands, wholes = spilling.bands[index], context.placement.layouts
    for number, pixels in enumerate(bands.pixels):
        runs = {name: runs[number] for name, runs in bands.reads.items()}
        if output in bands.buffers:
            runs[output] = pixels
        places = {
            name: buffer.place(wholes[name], number, runs[name][0])
            for name, buffer in bands.buffers.items()
        }
        for name in bands.reads:
            yield from brought(name, index, number, bands, places[name])
        moves = [
            (buffer.base, buffer.base + buffer.words, places[name].base - buffer.base)
            for name, buffer in bands.buffers.items()
        ]
        for work in works:
            yield from part_of(work, pixels, moves, context.config)
        if output in bands.buffers:
            yield from stored(output, pixels, places[output], spilling)


def brought(
    name: str, index: int, band: int, bands: Bands, layout: TensorLayout
) -> Iterator[Bring]:
    """Yield what brings the pixels of a band."""
    run = bands.reads[name][band]
    for plane in range(layout.planes):
        for group in range(layout.groups):
            for part, (first, count) in enumerate(blocks(run[1] - run[0], bands.part)):
                address = layout.address(plane, group) + run[0] + first
                yield Bring((0, name, index, band, plane, group, part), address, count)


def stored(name: str, run: Run, layout: TensorLayout, spilling: Spilling) -> Iterator[Put]:
    """Yield what stores the pixels of a band, for all that read some of them."""
    for index, bands in spilling.readers(name):
        size = bands.part
        for band, (begin, end) in enumerate(bands.reads[name]):
            low, high = max(begin, run[0]), min(end, run[1])
            if low >= high:
                continue
            parts = range((low - begin) // size, (high - 1 - begin) // size + 1)
            for plane in range(layout.planes):
                for group in range(layout.groups):
                    for part in parts:
                        top = begin + part * size
                        first, stop = max(low, top), min(high, top + size)
                        yield Put(
                            (0, name, index, band, plane, group, part),
                            first - top,
                            layout.address(plane, group) + first,
                            stop - first,
                        )


Moves = Sequence[tuple[int, int, int]]
"""Addresses of buffers, (first, stop), and how far what lies there moves."""


def part_of(work: Work, run: Run, moves: Moves, config: ArrayConfig) -> Iterator[Work]:
    """Yield the part of some work for a band's pixels."""
    if isinstance(work, PoolWork):
        streams = tuple(move_stream(stream, moves) for stream in work.streams)
        yield replace(
            work,
            source=move(work.source, moves),
            streams=streams,
            target=move(work.target, moves),
            block=(run[0], run[1] - run[0]),
        )
        return
    given = work.block
    if given is not None and not run[0] <= given[0] < run[1]:
        return
    moved = cache(partial(move_stream, moves=moves))
    columns = tuple(move_column(column, moved, moves) for column in work.columns)
    finish = work.finish
    finish = replace(
        finish,
        target=finish.target and replace(finish.target, layout=move(finish.target.layout, moves)),
        residual=move_second(finish.residual, moves),
    )
    all_blocks = blocks(run[1] - run[0], config.acc_depth)
    for first, count in [given] if given else ((run[0] + a, b) for a, b in all_blocks):
        yield replace(work, columns=columns, finish=finish, block=(first, count))


def move(layout: TensorLayout, moves: Moves) -> TensorLayout:
    """Return a layout where a band has it."""
    for first, stop, distance in moves:
        if first <= layout.base < stop:
            return replace(layout, base=layout.base + distance)
    return layout


def move_stream(stream: MapStream, moves: Moves) -> MapStream:
    """Return a stream over a layout where a band has it."""
    return replace(stream, layout=move(stream.layout, moves))


def move_second(second: Second | None, moves: Moves) -> Second | None:
    """Return what comes through the residual port where a band has it."""
    return second and replace(second, layout=move(second.layout, moves))


def move_column(column: Column, moved: Callable[[MapStream], MapStream], moves: Moves) -> Column:
    """Return a column tile whose passes read what a band has: streams as they are ``moved``."""
    passes = tuple(
        replace(
            item,
            stream=moved(item.stream) if isinstance(item.stream, MapStream) else item.stream,
            times=move_second(item.times, moves),
        )
        for item in column.passes
    )
    return replace(column, passes=passes)
