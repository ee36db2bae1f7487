"""Accuracy of integer networks: methods against schemes, on published networks.

    python -m benchmarks.accuracy --data DIR [--networks resnet8] [--methods nupes,rtn]

Every cell is the *integer* network: top-1 on all test samples, the number of predictions that
differ from the float network's, the difference in correct predictions with its paired standard
error, and the time that quantization took. Cells are kept in ``accuracy.json`` as soon as they are
done, and an interrupted run goes on where it stopped; ``accuracy.md`` is the table.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

import nupes
from benchmarks.pretrained import NETWORKS, Pretrained, load_pretrained
from nupes.model.files import write_atomically
from nupes.quantizer.recipe import METHODS, Phase, Recipe

SCHEMES = {
    "W8A8": ("W8A8", {}),
    "W4A8": ("W4A8", {}),
    "W4A4": ("W4A4", {}),
    "W3A3": ("W3A3", {}),
    "W2A4": ("W2A4", {}),
    "all 4-bit": ("W4A4", {"ends": None, "residual_bits": None}),
    "data-free W4A4": ("W4A4", {}),
}
"""Columns: scheme and options. Ends have 8 bits but for the column in which only the network's
input has."""

DATA_FREE = {"data-free W4A4"}

SEARCH = METHODS["search"]
PLAIN = METHODS["rtn"]
ABLATION: dict[str, Recipe] = {
    "round to nearest, uniform": PLAIN,
    "+ power, exponents by weight error": replace(PLAIN, family="power"),
    "+ weights by output error": replace(PLAIN, family="power", metric="output"),
    "+ activations by output error": replace(
        PLAIN, family="power", metric="output", output_cost=True
    ),
    "+ bias correction": replace(SEARCH, steps=(), compensate=False),
    "+ gptq": replace(SEARCH, steps=("gptq", "refit"), compensate=False),
    "+ coordinate descent": replace(SEARCH, compensate=False),
    "+ compensation": SEARCH,
    "+ learned codes": replace(
        SEARCH, phases=(Phase("layer", "soft", exponents=0, activations=False),)
    ),
    "+ learned exponents": replace(SEARCH, phases=(Phase("layer", "soft", activations=False),)),
    "+ learned activations": replace(SEARCH, phases=(Phase("layer", "soft"),)),
    "+ blocks": replace(SEARCH, phases=(Phase("block", "soft"),)),
    "+ network": METHODS["nupes"],
    "floor and ceil only": replace(SEARCH, phases=(Phase("block", "adaround"),)),
    "uniform, all steps": replace(METHODS["nupes"], family="uniform"),
}
"""Rows of the ablation, each one step more than the row above."""


@dataclass(frozen=True)
class Cell:
    """What one method reached with one scheme on one network."""

    network: str
    method: str
    scheme: str
    accuracy: float
    """Per cent of the test samples."""
    lost: float
    """Points below the float network."""
    error: float
    """Standard error of ``lost``, paired over samples."""
    changed: int
    """Predictions that differ from the float network's."""
    seconds: float
    """Wall time of the quantization."""


def predictions_of(network: Pretrained) -> np.ndarray:
    """Return the float network's classes."""
    with torch.no_grad():
        batches = torch.from_numpy(network.images).split(250)
        return torch.cat([network.module(batch) for batch in batches]).argmax(1).numpy()


def measure(network: Pretrained, expected: np.ndarray, method: str, column: str) -> Cell:
    """Return one cell."""
    scheme, options = SCHEMES[column]
    recipe = {**METHODS, **ABLATION}[method]
    if column in DATA_FREE:
        data, shape = None, tuple(network.calibration.shape[1:])
        limits = float(network.calibration.min()), float(network.calibration.max())
        options = {**options, "input_shape": shape, "input_range": limits}
    else:
        data = network.calibration
    started = time.monotonic()
    integer = nupes.quantize(
        network.module, scheme, data, **{"input_bits": 8, **options}, method=recipe
    )
    seconds = time.monotonic() - started
    found = integer(network.images).reshape(len(network.images), -1).argmax(1)
    difference = (expected == network.labels).astype(float) - (found == network.labels)
    return Cell(
        network.name,
        method,
        column,
        accuracy=round(100 * float((found == network.labels).mean()), 2),
        lost=round(100 * float(difference.mean()), 2),
        error=round(100 * float(difference.std() / np.sqrt(len(difference))), 2),
        changed=int((found != expected).sum()),
        seconds=round(seconds, 1),
    )


def table(cells: list[Cell], network: str, floating: float, methods: list[str]) -> str:
    """Return the Markdown table of one network."""
    chosen = {(cell.method, cell.scheme): cell for cell in cells if cell.network == network}
    columns = [name for name in SCHEMES if any((m, name) in chosen for m in methods)]
    lines = [
        (
            f"**{network}**, float {floating:.2f} %: top-1 (points lost and their paired standard "
            "error; predictions changed; seconds)"
        ),
        "",
        f"| method | {' | '.join(columns)} |",
        "| --- |" + " --- |" * len(columns),
    ]
    for method in methods:
        row = []
        for column in columns:
            cell = chosen.get((method, column))
            row.append(
                f"{cell.accuracy:.1f} ({cell.lost:+.1f} ± {cell.error:.1f}; {cell.changed}; "
                f"{cell.seconds:.0f} s)"
                if cell
                else "-"
            )
        if any(entry != "-" for entry in row):
            lines.append(f"| {method} | {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("--data", type=Path, required=True, help="see benchmarks/pretrained.py")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--ablation", action="store_true", help="the ablation's rows instead")
    parser.add_argument("--output", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--again", action="store_true", help="forget what an earlier run measured")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "accuracy.json"
    stored = json.loads(path.read_text()) if path.exists() and not arguments.again else {}
    cells = [Cell(**cell) for cell in stored.get("cells", [])]
    floating = stored.get("float", {})
    methods = list(ABLATION) if arguments.ablation else arguments.methods.split(",")
    schemes = arguments.schemes.split(",")
    done = {(cell.network, cell.method, cell.scheme) for cell in cells}
    with Progress(transient=True) as bar:
        networks = arguments.networks.split(",")
        task = bar.add_task("quantizing", total=len(networks) * len(methods) * len(schemes))
        for name in networks:
            network = load_pretrained(name, arguments.data)
            expected = predictions_of(network)
            floating[name] = 100 * float((expected == network.labels).mean())
            for column in schemes:
                for method in methods:
                    bar.update(task, description=f"{name} {column} {method}")
                    if (name, method, column) not in done:
                        cells.append(measure(network, expected, method, column))
                        report = {"float": floating, "cells": [asdict(cell) for cell in cells]}
                        save(path, json.dumps(report, indent=1))
                    bar.advance(task)
    text = "\n\n".join(table(cells, name, floating[name], methods) for name in networks)
    save(arguments.output / ("ablation.md" if arguments.ablation else "accuracy.md"), text + "\n")
    print(text)


def save(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
