"""Which power exponents a search chose, network by network.

    python -m benchmarks.exponents out/accuracy/*-search-powers-*.safetensors [--picture FILE]

Of the weights of each layer, and of each stored tensor, with fewer than 8 bits: how many there are,
the exponents' quartiles, and how many lie within 0.05 of 1, which is uniform. The picture has a
histogram for each network.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from rich.table import Table

import nupes
from nupes.console import print_table

NEAR = 0.05
"""Distance from 1 below which an exponent counts as uniform."""

KINDS = "weights", "activations"

BINS = np.linspace(0.2, 1.5, 27)
"""Edges of the histogram: the search stays between the first one and the last one."""

ACROSS = 3
"""Histograms side by side."""


def exponents_of(network: nupes.IntegerNetwork, kind: str) -> np.ndarray:
    """Return the exponents (n,) that the quantizer recorded of weights or of activations of fewer
    than 8 bits; 1 where a codebook is uniform, none where it is a table of another making."""
    codes = [layer[kind] for layer in network.metadata["layers"] if kind in layer]
    small = [code for code in codes if code["bits"] < 8]
    told = [code for code in small if code["exponent"] is not None or code["family"] != "table"]
    return np.array([code["exponent"] or 1.0 for code in told])


def plot_exponents(found: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Return the histograms of the exponents of each network, by kind."""
    rows = -(-len(found) // ACROSS)
    figure = Figure(figsize=(3.4 * ACROSS, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, ACROSS, squeeze=False, sharex=True).flatten()
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    for axis, (name, kinds) in zip(axes, found.items(), strict=False):
        axis.hist(list(kinds.values()), BINS, stacked=True, label=list(kinds))
        axis.axvline(1, color="grey", linewidth=0.6)
        axis.set_title(name, fontsize="medium")
    figure.supxlabel("power exponent", fontsize="medium")
    figure.supylabel("codebooks", fontsize="medium")
    axes[0].legend(frameon=False)
    return figure


def main(
    networks: Annotated[list[Path], typer.Argument(help="Files of integer networks.")],
    picture: Annotated[Path | None, typer.Option(help="PNG or SVG to write.")] = None,
) -> None:
    """Print the quartiles of exponents."""
    columns = "network", "codebooks of", "number", "least", "quarter", "half", "three quarters"
    table = Table(*columns, "most", "near 1", box=None, pad_edge=False)
    found = {}
    for path in networks:
        network = nupes.load(path)
        found[path.stem] = {kind: exponents_of(network, kind) for kind in KINDS}
        for kind, exponents in found[path.stem].items():
            if len(exponents):
                quartiles = [f"{value:.2f}" for value in np.quantile(exponents, np.arange(5) / 4)]
                near = f"{(np.abs(exponents - 1) <= NEAR).mean():.0%}"
                table.add_row(path.stem, kind, str(len(exponents)), *quartiles, near)
    print_table(table)
    if picture is not None:
        plot_exponents(found).savefig(picture, dpi=120)


if __name__ == "__main__":
    typer.run(main)
