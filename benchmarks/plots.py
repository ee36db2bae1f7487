"""Pictures of what ``benchmarks.accuracy`` measured.

    python -m benchmarks.plots out/accuracy/accuracy.json -o out/accuracy
    python -m benchmarks.plots out/accuracy/accuracy.json --network net.safetensors -o out/accuracy

The first picture is the points of top-1 that each method loses by scheme, one panel a network, with
paired standard errors; the second, for a quantized network, the exponents of its layers.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import nupes

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.fonttype": "none",
}


def plot_accuracy(report: dict) -> Figure:
    """Return the points lost by scheme and method, one panel a network."""
    cells = report["cells"]
    networks = list(dict.fromkeys(cell["network"] for cell in cells))
    figure = Figure(figsize=(4.2 * len(networks), 3.4), layout="constrained")
    axes = figure.subplots(1, len(networks), squeeze=False)[0]
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    for axis, network in zip(axes, networks, strict=True):
        own = [cell for cell in cells if cell["network"] == network]
        schemes = list(dict.fromkeys(cell["scheme"] for cell in own))
        for index, method in enumerate(methods):
            found = {cell["scheme"]: cell for cell in own if cell["method"] == method}
            # Side by side, so that error bars do not hide one another.
            shift = (index - (len(methods) - 1) / 2) * 0.8 / len(methods)
            places = [place + shift for place, name in enumerate(schemes) if name in found]
            chosen = [found[name] for name in schemes if name in found]
            axis.errorbar(
                places,
                [cell["lost"] for cell in chosen],
                [cell["error"] for cell in chosen],
                fmt="o",
                markersize=4,
                linewidth=1,
                color=f"C{index}",
                label=method,
            )
        axis.set_xticks(range(len(schemes)), schemes, rotation=30, ha="right")
        axis.axhline(0, color="grey", linewidth=0.6)
        axis.set_title(f"{network}, float {report['float'][network]:.1f} %")
    axes[0].set_ylabel("points of top-1 lost")
    axes[-1].legend(frameon=False)
    return figure


def plot_exponents(layers: list[dict]) -> Figure:
    """Return the exponents of weights and activations, layer by layer; 1 is uniform."""
    figure = Figure(figsize=(max(5.0, 0.32 * len(layers)), 3.2), layout="constrained")
    axis = figure.subplots()
    for kind, marker in (("weights", "o"), ("activations", "s")):
        points = [
            (place, layer[kind]["exponent"])
            for place, layer in enumerate(layers)
            if layer.get(kind, {}).get("exponent") is not None
        ]
        if points:
            axis.plot(*zip(*points, strict=True), marker, markersize=4, label=kind)
    axis.axhline(1, color="grey", linewidth=0.6)
    axis.set_xticks(range(len(layers)), [layer["name"] for layer in layers], rotation=90)
    axis.set_ylabel("power exponent")
    axis.legend(frameon=False)
    return figure


def main() -> None:
    """Write the pictures as PNG."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots")
    parser.add_argument("report", type=Path, help="accuracy.json of benchmarks.accuracy")
    parser.add_argument("--network", type=Path, help="a quantized network, for its exponents")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/accuracy"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figures = {"accuracy": plot_accuracy(json.loads(arguments.report.read_text()))}
        if arguments.network is not None:
            layers = nupes.load(arguments.network).metadata["layers"]
            figures["exponents"] = plot_exponents(layers)
        for name, figure in figures.items():
            path = arguments.output / f"{name}.png"
            figure.savefig(path, dpi=150)
            print(path)


if __name__ == "__main__":
    main()
