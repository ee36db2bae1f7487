"""The drawings of a report, one function each: facts in, an ``<svg>`` element out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

from nupes.compiler.program import Program
from nupes.compiler.report.trace import ENGINES, spans
from nupes.explore.sweeps import Point
from nupes.report.gather import Codes, Result
from nupes.report.theme import COLORS, figure, style, to_svg

__all__ = [
    "LOSSES",
    "draw_accuracy",
    "draw_codes",
    "draw_pareto",
    "draw_timeline",
    "draw_waterfall",
]

LOSSES = ("edge", "requantization", "weights", "memory", "dependency")
"""Where cycles go beyond the MACs at full rate, in the order of the waterfall."""

LOSS_COLORS = dict(zip(LOSSES, ("edge", "requant", "weights", "memory", "depend"), strict=True))

BINS = 360
"""Columns of the timeline: engines are busy for a share of each."""

SMALL, MEDIUM = (3.1, 1.75), (4.5, 2.7)
"""Inches of the drawings of a layer and of the network."""

MARKERS = "osD^vP"


def draw_codes(codes: Codes, title: str) -> str:
    """Draw how often each level occurs: a bar on every level, where the code puts it; without
    counts the levels alone."""
    with style():
        drawing, axes = figure(*SMALL)
        levels = codes.levels.astype(float)
        counted = codes.total > 0
        heights = codes.counts / codes.total if counted else np.ones(len(levels))
        few = len(levels) <= 32
        axes.vlines(levels, 0, heights, color=COLORS["good"], linewidth=3.2 if few else 1.1)
        axes.plot(levels, np.zeros(len(levels)), "|", color=COLORS["ink"], markersize=5, zorder=3)
        axes.set_ylim(0, float(heights.max()) * 1.08)
        axes.set_xlabel("level")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if counted:
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        else:
            axes.set_yticks([])
            axes.grid(False)
        return to_svg(drawing, title)


def draw_waterfall(program: Program) -> str:
    """Draw how the cycles of a run become those of its MACs at full rate: what each loss takes."""
    lost = [sum(getattr(layer.losses, name) for layer in program.layers) for name in LOSSES]
    useful = sum(layer.mac_bound for layer in program.layers)
    names = ["cycles", *LOSSES, "MACs"]
    tops = program.cycles - np.concatenate([[0], np.cumsum([0, *lost[:-1]]), [0]])
    tops[-1] = useful
    heights = np.array([program.cycles, *lost, useful])
    colors = [COLORS["muted"], *(COLORS[LOSS_COLORS[name]] for name in LOSSES), COLORS["good"]]
    with style():
        drawing, axes = figure(*MEDIUM)
        bottoms = np.maximum(tops - heights, 0)
        axes.barh(names, heights, left=bottoms, color=colors, height=0.68)
        for row, height in enumerate(heights):
            share = f"{height / program.cycles:.1%}"
            left, right = bottoms[row], bottoms[row] + height
            if height >= 0.3 * program.cycles:
                x, side, color = (left + right) / 2, "center", COLORS["card"]
            elif right > 0.82 * program.cycles:
                x, side, color = left, "right", COLORS["ink"]
            else:
                x, side, color = right, "left", COLORS["ink"]
            axes.text(x, row, f" {share} ", va="center", ha=side, color=color, fontsize=8.5)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("cycles")
        return to_svg(drawing, "Cycles of the run less each loss: cycles of the MACs at full rate")


def busy_shares(program: Program) -> dict[str, np.ndarray]:
    """Return for each engine the share of each of ``BINS`` equal parts of the run in which it
    works."""
    edges = np.linspace(0, program.cycles, BINS + 1)
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in ENGINES}
    for span in spans(program):
        found[span.engine].append((span.first, span.last + 1))
    shares = {}
    for name, pairs in found.items():
        if not pairs:
            continue
        # Busy cycles before each edge: whole spans, and the part of the one that holds the edge.
        starts, stops = np.array(sorted(pairs)).T
        done = np.concatenate([[0], np.cumsum(stops - starts)])
        index = np.searchsorted(starts, edges, side="right")
        last = np.maximum(index - 1, 0)
        over = np.where(index > 0, np.maximum(stops[last] - edges, 0), 0)
        before = done[index] - over
        shares[name] = np.clip(np.diff(before) / np.diff(edges), 0, 1)
    return shares


def draw_timeline(program: Program) -> str:
    """Draw how busy every engine is over the run, one row each, and where layers begin."""
    shares = busy_shares(program)
    edges = np.linspace(0, program.cycles, BINS + 1)
    colors = {"load": "memory", "stream": "good", "pool": "weights", "drain": "edge"}
    with style():
        drawing, axes = figure(MEDIUM[0], 0.75 + 0.5 * len(shares))
        for row, (name, share) in enumerate(shares.items()):
            axes.stairs(
                row + 0.8 * share, edges, baseline=row, fill=True, color=COLORS[colors[name]]
            )
        starts = np.cumsum([0, *(layer.cycles for layer in program.layers[:-1])])
        axes.vlines(starts, -0.12, len(shares), color=COLORS["line"], linewidth=0.5, zorder=0)
        axes.set_yticks(np.arange(len(shares)) + 0.4, list(shares))
        axes.tick_params(axis="y", length=0)
        axes.grid(False)
        axes.set_xlim(0, program.cycles)
        axes.set_ylim(-0.12, len(shares))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("cycle; thin lines: a layer begins")
        return to_svg(drawing, "Share of time in which each engine works, over the run")


def staircase(points: Sequence[Point]) -> list[Point]:
    """Return the arrays for which no other one has as few processing elements and fewer cycles,
    smallest first."""
    steps: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cells, point.cycles)):
        if not steps or point.cycles < steps[-1].cycles:
            steps.append(point)
    return steps


def draw_pareto(points: Sequence[Point], current: str) -> str:
    """Draw cycles over processing elements: the arrays that none of as few elements beats are
    joined; the one with the name ``current`` is larger."""
    front = staircase(points)
    with style():
        drawing, axes = figure(*MEDIUM)
        rest = [point for point in points if point not in front]
        axes.plot(
            [point.cells for point in rest],
            [point.cycles for point in rest],
            "o",
            color=COLORS["muted"],
            markersize=3,
            alpha=0.55,
        )
        cells, cycles = [p.cells for p in front], [p.cycles for p in front]
        axes.plot(cells, cycles, "o-", color=COLORS["good"], markersize=4.5, linewidth=1.3)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(LogLocator(4))
        axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        for index, point in enumerate(front):
            # Alternately above and below the falling line, so that neighbours do not overlap.
            below = index % 2 == 1
            axes.annotate(
                str(point.array),
                (point.cells, point.cycles),
                xytext=(-3, -11) if below else (4, 4),
                ha="right" if below else "left",
                textcoords="offset points",
                fontsize=8.5,
            )
        for point in points:
            if str(point.array) == current:
                axes.plot(point.cells, point.cycles, "o", color=COLORS["good"], markersize=9)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_minor_formatter("")
        axes.margins(x=0.12, y=0.12)
        axes.set_xlabel("processing elements")
        axes.set_ylabel("cycles per image")
        return to_svg(drawing, "Cycles per image over processing elements, for many arrays")


def draw_accuracy(results: Sequence[Result], real: float | None) -> str:
    """Draw accuracy over the bits of the weights, one line per series, and the float network's."""
    names = list(dict.fromkeys(result.series for result in results))
    palette = ["good", "edge", "memory", "weights", "depend", "requant"]
    with style():
        drawing, axes = figure(*MEDIUM)
        for index, name in enumerate(names):
            chosen = sorted((r.bits, r.accuracy) for r in results if r.series == name)
            axes.plot(
                *zip(*chosen, strict=True),
                marker=MARKERS[index % len(MARKERS)],
                color=COLORS[palette[index % len(palette)]],
                label=name or "integer",
                linewidth=1.4,
                markersize=5,
            )
        if real is not None:
            axes.axhline(real, color=COLORS["muted"], linewidth=1, linestyle="--", label="float")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel("bits of a weight")
        axes.legend(loc="lower right")
        return to_svg(drawing, "Accuracy over the bits of a weight")
