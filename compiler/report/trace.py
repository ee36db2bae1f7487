"""The timeline as a Chrome trace: what every engine does in every cycle, for ui.perfetto.dev and
chrome://tracing.

The spans are those of the exact prediction, one per instruction and engine; a test compares them
with the signals of the RTL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nupes.compiler.emit.instructions import End, Load, Measure, Pool, Store
from nupes.compiler.program import Program

__all__ = ["ENGINES", "Span", "chrome_trace", "spans"]

ENGINES = ("layer", "load", "stream", "pool", "measure", "drain")
"""The rows of the trace: whole layers; payload words that the sequencer consumes; words issued into
the array, into the max-pool and the statistics unit; results written or queued for the host."""


@dataclass(frozen=True, slots=True)
class Span:
    """What an engine does for one instruction, from cycle ``first`` to cycle ``last``; cycle 0 is
    that of ``start``."""

    engine: str
    name: str
    layer: str
    first: int
    last: int
    details: dict[str, int]


def spans(program: Program) -> Iterator[Span]:
    """Yield the spans of every engine, in program order; those of one engine never overlap."""
    timeline, array = program.timeline, program.array
    layers = tile_layers(program)
    tile = 0
    items = [item for item in program.schedule.instructions if not isinstance(item, End)]
    for item, (decoded, loaded) in zip(items, timeline.payload, strict=True):
        if isinstance(item, Load):
            # A LOAD may be for a later layer than the tile after it.
            layer = layers[item.due if item.due >= 0 else min(tile, len(layers) - 1)]
            name = "input" if item.hole else item.destination.name.lower()
            name = name if item.key is None else "spilled"
            if item.words:
                yield Span("load", name, layer, decoded + 1, loaded, {"words": item.words})
            continue
        layer = layers[tile]
        if item.words:
            yield Span("load", "weights", layer, decoded + 1, loaded, {"words": item.words})
        first, final = timeline.first_issue[tile], timeline.final_issue[tile]
        details = {"tile": tile, "pixels": item.count, "words": item.streamed}
        engine, delay = "stream", array.issue_to_write
        if isinstance(item, Pool):
            engine, delay = "pool", array.issue_to_pool + 1
        elif isinstance(item, Measure):
            engine = "measure"
        kind = "store" if isinstance(item, Store) else "tile"
        yield Span(engine, f"{kind} {tile}", layer, first, final, details)
        if item.writes:
            result = first + item.lead + delay
            words = {"tile": tile, "words": item.count * item.writes}
            name = "to host" if item.to_host else f"tile {tile}"
            yield Span("drain", name, layer, result, timeline.retired[tile], words)
        tile += 1


def tile_layers(program: Program) -> list[str]:
    """Return the layer of every tile."""
    pairs = zip(program.schedule.layers, program.schedule.tiles, strict=True)
    return [program.layers[index].name for index, count in pairs for _ in range(count)]


def layer_spans(program: Program) -> Iterator[Span]:
    """Yield a span for every layer, and every image of a batch that it runs on its own: together
    they are the whole run."""
    edges = [0, *program.timeline.marks[1:], program.cycles]
    for index, first, stop in zip(program.marked, edges[:-1], edges[1:], strict=True):
        layer = program.layers[index]
        details = {"cycles": stop - first, "macs": layer.macs // program.marked.count(index)}
        yield Span("layer", layer.name, layer.name, first, stop - 1, details)


def chrome_trace(program: Program) -> dict[str, Any]:
    """Return a program's trace as JSON data (the Trace Event Format of Chrome).

    The format counts microseconds: one of them is one cycle.
    """
    rows = {engine: row for row, engine in enumerate(ENGINES)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": f"{program.array} array"}}
    ]
    for engine, row in rows.items():
        where = {"ph": "M", "pid": 0, "tid": row}
        events.append(where | {"name": "thread_name", "args": {"name": engine}})
        events.append(where | {"name": "thread_sort_index", "args": {"sort_index": row}})
    for span in [*layer_spans(program), *spans(program)]:
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": span.engine,
                "pid": 0,
                "tid": rows[span.engine],
                "ts": span.first,
                "dur": span.last - span.first + 1,
                "args": {"layer": span.layer, **span.details},
            }
        )
    return {
        "traceEvents": events,
        "otherData": {
            "unit": "1 us is one cycle",
            "array": str(program.array),
            "cycles": program.cycles,
            "latency": program.latency,
            "batch": program.batch,
        },
    }
