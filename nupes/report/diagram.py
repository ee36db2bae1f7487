"""The network graph: layers from top to bottom, skip connections as arcs beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nupes.report.gather import LayerFacts

__all__ = ["Arc", "Box", "Diagram", "lay_out"]

WIDTH, HEIGHT, GAP, LANE, MARGIN = 236, 44, 16, 16, 12


@dataclass(frozen=True)
class Box:
    """A layer, an input or a state at ``y``; ``share`` is its part of the cycles, 0 to 1."""

    y: int
    title: str
    detail: str
    link: str
    share: float


@dataclass(frozen=True)
class Arc:
    """A connection as an SVG path; one that skips layers bends to the right."""

    path: str
    skips: bool


@dataclass(frozen=True)
class Diagram:
    """Everything that the page draws, in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arcs: tuple[Arc, ...]
    box_width: int = WIDTH
    box_height: int = HEIGHT
    left: int = MARGIN


def choose_lanes(edges: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return a lane for each edge (from, to) such that edges in one lane do not overlap; short
    edges lie inside."""
    lanes: list[list[tuple[int, int]]] = []
    chosen = {}
    for edge in sorted(edges, key=lambda pair: (pair[1] - pair[0], pair)):
        free = (
            number
            for number, taken in enumerate(lanes)
            if all(edge[1] <= start or stop <= edge[0] for start, stop in taken)
        )
        lane = next(free, len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(edge)
        chosen[edge] = lane
    return chosen


def lay_out(layers: Sequence[LayerFacts], sources: Mapping[str, tuple[str, str]]) -> Diagram:
    """Return the diagram of layers in execution order, below what they begin with: ``sources`` has
    title and detail by tensor."""
    step = HEIGHT + GAP
    cycles = sum(layer.cost["cycles"] for layer in layers if layer.cost) or 1
    position = {name: row for row, name in enumerate(sources)}
    boxes = [
        Box(position[name] * step, title, detail, "", 0.0)
        for name, (title, detail) in sources.items()
    ]
    straight: list[tuple[int, int]] = []
    bent: list[tuple[int, int]] = []
    for layer in layers:
        row = len(boxes)
        for start in sorted({position[name] for name in layer.reads}):
            (straight if start == row - 1 else bent).append((start, row))
        position[layer.stores] = row
        size = "x".join(map(str, layer.shape))
        share = layer.cost["cycles"] / cycles if layer.cost else 0.0
        detail = f"{layer.operator} → {size}"
        boxes.append(Box(row * step, layer.name, detail, f"layer-{layer.index}", share))
    lanes = choose_lanes(bent)
    x, right = MARGIN + WIDTH // 2, MARGIN + WIDTH
    arcs = [
        Arc(f"M{x} {start * step + HEIGHT}V{stop * step - 2}", False) for start, stop in straight
    ]
    for (start, stop), lane in lanes.items():
        top, bottom = start * step + HEIGHT - 10, stop * step + 10
        reach = right + (lane + 1) * LANE - 8
        path = f"M{right} {top}H{reach}q8 0 8 8V{bottom - 8}q0 8 -8 8H{right + 2}"
        arcs.append(Arc(path, True))
    width = MARGIN * 2 + WIDTH + (max(lanes.values(), default=-1) + 1) * LANE
    return Diagram(width, (len(boxes) - 1) * step + HEIGHT + 2, tuple(boxes), tuple(arcs))
