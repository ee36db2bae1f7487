"""Pictures of what ``benchmarks.accuracy`` measured.

    python -m benchmarks.plots out/accuracy/accuracy.json
    python -m benchmarks.plots out/accuracy/accuracy.json --network resnet20 --data DIR

The first pictures are the points of top-1 that each method loses by scheme, with paired standard
errors, and the error of its outputs, one panel a network. For one network there are also the
exponents of its layers, read from the integer network that the benchmark kept, and the levels of
some layers over the histogram of their float weights. The weights of equalized layers would not be
the module's, so for that picture the network is quantized anew, without equalization.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import nupes
from benchmarks.accuracy import SCHEMES, kept_network
from benchmarks.pretrained import NETWORKS, Pretrained, load_pretrained
from nupes.model.network import IntegerNetwork
from nupes.model.operators import Conv
from nupes.quantizer.frontend.program import capture, export_module
from nupes.quantizer.options.recipe import METHODS
from nupes.quantizer.stages.fuser import fuse
from nupes.quantizer.stages.stage import weighted

PANELS = 4
"""Layers whose levels are drawn."""

LABELS = {"lost": "points of top-1 lost", "noise": "error of the outputs, %"}
"""What is drawn of each cell."""

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "svg.fonttype": "none",
}


def plot_cells(report: dict, quantity: str) -> Figure:
    """Return the points ``lost`` or the ``noise`` by scheme and method, one panel a network."""
    cells = report["cells"]
    networks = list(dict.fromkeys(cell["network"] for cell in cells))
    figure = Figure(figsize=(4.2 * len(networks), 3.4), layout="constrained")
    axes = figure.subplots(1, len(networks), squeeze=False)[0]
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    for axis, network in zip(axes, networks, strict=True):
        own = [cell for cell in cells if cell["network"] == network]
        schemes = [name for name in SCHEMES if any(cell["scheme"] == name for cell in own)]
        for index, method in enumerate(methods):
            found = {cell["scheme"]: cell for cell in own if cell["method"] == method}
            # Side by side, so that error bars do not hide one another.
            shift = (index - (len(methods) - 1) / 2) * 0.8 / len(methods)
            places = [place + shift for place, name in enumerate(schemes) if name in found]
            chosen = [found[name] for name in schemes if name in found]
            axis.errorbar(
                places,
                [cell[quantity] for cell in chosen],
                [cell["error"] for cell in chosen] if quantity == "lost" else None,
                fmt="o",
                markersize=4,
                linewidth=1,
                color=f"C{index}",
                label=method,
            )
        axis.set_xticks(range(len(schemes)), schemes, rotation=30, ha="right")
        if quantity == "lost":
            axis.axhline(0, color="grey", linewidth=0.6)
            axis.set_yscale("symlog", linthresh=5)
            axis.set_ylim(-1.5, 100)
            axis.set_yticks([0, 1, 2, 3, 4, 5, 10, 20, 50], ["0", *"12345", "10", "20", "50"])
            axis.set_yticks([], minor=True)
        else:
            axis.set_yscale("log")
        axis.set_title(f"{network}, float {report['float'][network]:.1f} %")
    axes[0].set_ylabel(LABELS[quantity])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=9)
    return figure


def plot_exponents(layers: list[dict]) -> Figure:
    """Return the exponents of weights, and of activations that have one, layer by layer; 1 is
    uniform."""
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
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def plot_levels(float_weights: dict[str, np.ndarray], network: IntegerNetwork) -> Figure:
    """Return the histograms of some layers' float weights in units of their codebooks' levels,
    channel by channel, and where the levels lie."""
    layers = [(layer.name, layer.op) for layer in network.layers if isinstance(layer.op, Conv)]
    small = [(name, op) for name, op in layers if op.codebook.bits < 8] or layers
    chosen = [small[i] for i in np.linspace(0, len(small) - 1, min(PANELS, len(small))).astype(int)]
    figure = Figure(figsize=(3.2 * len(chosen), 2.8), layout="constrained")
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axis, (name, op) in zip(axes, chosen, strict=True):
        alive = op.scale > 0
        real = float_weights[name][alive] / op.scale[alive].reshape(-1, 1, 1, 1)
        top = 1.5 * np.abs(op.codebook.levels).max()
        axis.hist(real.clip(-top, top).ravel(), bins=80, color="C7")
        for level in op.codebook.levels:
            axis.axvline(level, color="C0", linewidth=0.8)
        exponent = op.codebook.exponent
        axis.set_title(f"{name}, {f'a = {exponent:.2f}' if exponent else 'uniform'}")
        axis.set_xlabel("weight, in units of levels")
        axis.set_yticks([])
    return figure


def weights_of(source: Pretrained) -> dict[str, np.ndarray]:
    """Return the float weights (n, c // groups, kh, kw) of each layer, batch norms folded in."""
    program = export_module(source.module, (2, *source.calibration.shape[1:]))
    stages = fuse(capture(program)).stages
    return {name: op.weight for name, op in weighted(stages).items()}


def main() -> None:
    """Write the pictures as PNG."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots")
    parser.add_argument("report", type=Path, help="accuracy.json of benchmarks.accuracy")
    parser.add_argument("--network", choices=NETWORKS, help="a network for exponents and levels")
    parser.add_argument("--data", type=Path, help="see benchmarks/pretrained.py")
    parser.add_argument("--scheme", default="W4A4")
    parser.add_argument("--method", default="nupes", choices=METHODS)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/accuracy"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    report = json.loads(arguments.report.read_text())
    with mpl.rc_context(STYLE):
        figures = {"accuracy": plot_cells(report, "lost"), "outputs": plot_cells(report, "noise")}
        if arguments.network is not None:
            if arguments.data is None:
                parser.error("--network needs --data")
            chosen = arguments.network, arguments.method, arguments.scheme
            kept = nupes.load(kept_network(arguments.report.parent, *chosen))
            figures["exponents"] = plot_exponents(kept.metadata["layers"])
            source = load_pretrained(arguments.network, arguments.data)
            recipe = replace(METHODS[arguments.method], equalize=False, phases=())
            qnet = nupes.quantize(
                source.module, arguments.scheme, source.calibration, method=recipe
            )
            figures["levels"] = plot_levels(weights_of(source), qnet)
        for name, figure in figures.items():
            path = arguments.output / f"{name}.png"
            figure.savefig(path, dpi=150)
            print(path)


if __name__ == "__main__":
    main()
