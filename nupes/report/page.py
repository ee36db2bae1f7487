"""The page: facts and drawings in one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from nupes.arch.costs import access_bits
from nupes.compiler.program import Program
from nupes.explore.sweeps import Point
from nupes.model.network import IntegerNetwork
from nupes.report import charts
from nupes.report.diagram import lay_out
from nupes.report.gather import Accuracy, LayerFacts, Result, Size, mark_pareto

if TYPE_CHECKING:
    from nupes.synthesis.areas import ArrayArea

__all__ = ["Facts", "render"]

CLOCK = 100_000_000
"""The clock, in Hz, at which the page says how long an image takes."""


@dataclass(frozen=True, eq=False)
class Facts:
    """All that one page shows; None or empty for what is not known."""

    title: str
    network: IntegerNetwork
    size: Size
    layers: Sequence[LayerFacts]
    program: Program | None = None
    memory_bits: int | None = None
    area: "ArrayArea | None" = None
    accuracy: Accuracy | None = None
    images: int = 0
    points: Sequence[Point] = ()
    results: Sequence[Result] = field(default=())


def grouped(value: float) -> str:
    """Return a number with its thousands grouped."""
    return f"{value:,.0f}"


def size_text(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return f"{100 * value:.{digits}f} %"


def draw(facts: Facts) -> dict[str, Markup]:
    """Return the drawings of the whole network by name, "" for one that the facts do not allow."""
    found = dict.fromkeys(("waterfall", "timeline", "pareto", "accuracy"), "")
    if facts.program is not None:
        found["waterfall"] = charts.draw_waterfall(facts.program)
        found["timeline"] = charts.draw_timeline(facts.program)
    able = [point for point in facts.points if not point.refusal]
    if able:
        array = str(facts.program.array) if facts.program else ""
        found["pareto"] = charts.draw_pareto(able, array)
    if facts.results:
        real = facts.accuracy.real if facts.accuracy else None
        found["accuracy"] = charts.draw_accuracy(facts.results, real)
    return {name: Markup(text) for name, text in found.items()}


def sources_of(network: IntegerNetwork) -> dict[str, tuple[str, str]]:
    """Return title and shape in words of what a network begins with, by tensor."""
    several = len(network.inputs) > 1
    kinds = [("input", item.tensor) for item in network.inputs]
    kinds += [("constant", item.tensor) for item in network.constants]
    kinds += [("state", item.tensor) for item in network.state]
    return {
        tensor.name: (
            f"{kind} {tensor.name}" if several or kind == "state" else kind,
            "x".join(map(str, tensor.shape)),
        )
        for kind, tensor in kinds
    }


def draw_layers(layers: Sequence[LayerFacts]) -> list[dict[str, Markup]]:
    """Return the drawings of each layer: of its weights, and of what it stores."""
    found = []
    for layer in layers:
        drawings = {"weights": Markup(), "output": Markup()}
        if layer.weights is not None:
            drawings["weights"] = Markup(
                charts.draw_codes(
                    layer.weights, f"Weights of {layer.name} on the levels of their code"
                )
            )
        if layer.output is not None:
            title = f"Values that {layer.name} stores, on their levels"
            drawings["output"] = Markup(charts.draw_codes(layer.output, title))
        found.append(drawings)
    return found


def render(facts: Facts) -> str:
    """Return the page."""
    folder = files("nupes.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(grouped=grouped, bytes=size_text, percent=percent)
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        facts=facts,
        version=version("nupes"),
        charts=draw(facts),
        drawings=draw_layers(facts.layers),
        diagram=lay_out(facts.layers, sources_of(facts.network)),
        pareto=mark_pareto(facts.points),
        losses=charts.LOSS_COLORS,
        access_bits=access_bits(facts.program.array) if facts.program else {},
        milliseconds=1000 * facts.program.cycles / CLOCK if facts.program else None,
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup((folder / "page.js").read_text(encoding="utf-8")),
    )
