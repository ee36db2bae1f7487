"""Accuracy of integer networks: methods against schemes, on published networks.

    python -m benchmarks.accuracy --data DIR [--networks resnet8 dscnn] [--methods nupes rtn]
        [--calibration 64] [--images 250] [--steps 1000] [--override "block1.*=W8A8"]

Every cell is the *integer* network: top-1 on all test samples, the difference in correct
predictions from the float network with its paired standard error, the number of predictions that
differ, the squared error of the outputs (which has less noise than counts of predictions), and the
time that quantization took. Cells are kept in ``accuracy.json`` (``--ablation``: ``ablation.json``,
``--codebooks``: ``codebooks.json``) as soon as they are done, and an interrupted run goes on where
it stopped; a file ``.md`` beside it has a table for each quantity. The networks are kept there as
well. Cells do not know which code measured them, nor ``--steps`` and ``--override``: after a change
of these, use ``--again`` or another ``--output``.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

import nupes
from benchmarks.peers.brevitas import quantize_brevitas
from benchmarks.pretrained import CONVOLUTIONAL, NETWORKS, Pretrained, load_pretrained
from nupes.inputs import parse_overrides
from nupes.model.errors import InputError
from nupes.model.files import write_atomically
from nupes.quantizer.options.recipe import END_TO_END, METHODS, Phase, Recipe
from nupes.quantizer.options.scheme import parse_scheme

SCHEMES = {
    "W8A8": ("W8A8", {}),
    "W4A8": ("W4A8", {}),
    "W4A4": ("W4A4", {}),
    "W3A3": ("W3A3", {}),
    "W2A4": ("W2A4", {}),
    "all 4-bit": ("W4A4", {"ends": None, "residual_bits": None}),
    "data-free W4A4": ("W4A4", {}),
}
"""Columns: scheme and options. Weights of the first and last layer, the input, what the last layer
reads, and tensors that are only added have 8 bits; in "all 4-bit" only the input has."""

DATA_FREE = {"data-free W4A4"}

PEER = "brevitas"
"""The method that is not ours, for the columns whose ends have 8 bits."""

AUGMENTED = "nupes, augmented"
"""NUPES that learns on the whole network, from more images: the calibration images, moved at
random."""

LONGER = replace(METHODS["nupes"], phases=(replace(END_TO_END, steps=1500),))

PLAIN, SEARCH, NUPES = METHODS["rtn"], METHODS["search"], METHODS["nupes"]
POWER = replace(SEARCH, tables=False, equalize=False)
SOFT = Phase("layer", "soft")
FLOOR_AND_CEIL = replace(NUPES.phases[0], rounding="adaround")
ABLATION: dict[str, Recipe] = {
    "round to nearest, uniform": PLAIN,
    "+ power, exponents by weight error": replace(PLAIN, family="power"),
    "+ weights by output error": replace(PLAIN, family="power", metric="output"),
    "+ errors weighted by sensitivity": replace(
        PLAIN, family="power", metric="output", output_cost=True
    ),
    "+ bias correction": replace(POWER, steps=(), finish=(), compensate=False),
    "+ gptq": replace(POWER, steps=("gptq", "refit"), finish=(), compensate=False),
    "+ coordinate descent": replace(POWER, finish=(), compensate=False),
    "+ other scales": replace(POWER, finish=("rescale",), compensate=False),
    "+ beam search": replace(POWER, compensate=False),
    "+ compensation": POWER,
    "+ equalization": replace(SEARCH, tables=False),
    "+ a table of levels for each tensor": SEARCH,
    "+ learned codes": replace(SEARCH, phases=(replace(SOFT, exponents=0, activations=False),)),
    "+ learned exponents": replace(SEARCH, phases=(replace(SOFT, activations=False),)),
    "+ learned activations": replace(SEARCH, phases=(SOFT,)),
    "+ blocks": NUPES,
    "+ network": replace(NUPES, phases=(*NUPES.phases, END_TO_END)),
    "blocks, floor and ceil only": replace(SEARCH, phases=(FLOOR_AND_CEIL,)),
    "all steps, powers only": replace(NUPES, tables=False),
    "all steps, uniform": replace(NUPES, family="uniform"),
}
"""Rows of the ablation, each one step more than the row above."""

FAMILIES = {
    "uniform": {"family": "uniform", "tables": False},
    "powers": {"family": "power", "tables": False},
    "powers and tables": {"family": "power", "tables": True},
}
CODEBOOKS: dict[str, Recipe] = {
    "round to nearest, uniform": PLAIN,
    "round to nearest, powers": replace(PLAIN, family="power"),
    **{f"search, {name}": replace(SEARCH, **family) for name, family in FAMILIES.items()},
    **{f"learned, {name}": replace(NUPES, **family) for name, family in FAMILIES.items()},
}
"""The same steps with other families of codebooks."""

ROWS = {
    "accuracy": [*METHODS, AUGMENTED, PEER],
    "ablation": list(ABLATION),
    "codebooks": list(CODEBOOKS),
}
"""Methods of each file."""

RECIPES: dict[str, Recipe] = {**METHODS, **ABLATION, **CODEBOOKS, AUGMENTED: LONGER}


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
    noise: float
    """Mean squared error of the outputs, per cent of the variance of the float network's."""
    seconds: float
    """Wall time of the quantization."""


def limit(network: Pretrained, calibration: int | None, images: int | None) -> Pretrained:
    """Return the network with so many images, evenly spread; ``None`` for all."""

    def spread(total: int, count: int | None) -> np.ndarray:
        return np.linspace(0, total - 1, min(total, count or total)).astype(np.int64)

    chosen = spread(len(network.images), images)
    return replace(
        network,
        calibration=network.calibration[spread(len(network.calibration), calibration)],
        images=network.images[chosen],
        labels=network.labels[chosen],
    )


def outputs_of(network: Pretrained) -> np.ndarray:
    """Return the float network's outputs (n, classes)."""
    with torch.no_grad():
        batches = torch.from_numpy(network.images).split(250)
        return torch.cat([network.module(batch) for batch in batches]).flatten(1).numpy()


@dataclass(frozen=True)
class Wishes:
    """What holds for all cells of a run: steps of learning for each unit, those of the recipe if
    ``None``, and schemes of layers by patterns of their names."""

    steps: int | None = None
    overrides: dict[str, str] = field(default_factory=dict)

    def recipe(self, method: str) -> Recipe:
        """Return the recipe of a method."""
        recipe, steps = RECIPES[method], self.steps
        if steps is None:
            return recipe
        return replace(recipe, phases=tuple(replace(phase, steps=steps) for phase in recipe.phases))


def quantize(
    network: Pretrained, method: str, column: str, folder: Path, wishes: Wishes
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from images to the outputs of an integer network, which is saved."""
    scheme, options = SCHEMES[column]
    if column in DATA_FREE:
        data, shape = None, tuple(network.calibration.shape[1:])
        limits = float(network.calibration.min()), float(network.calibration.max())
        options = {**options, "input_shape": shape, "input_range": limits}
    else:
        data = network.calibration
    if method == AUGMENTED:
        options = {**options, "augment": network.augment}
    integer = nupes.quantize(
        network.module,
        scheme,
        data,
        **{"input_bits": 8, **options},
        overrides=wishes.overrides,
        method=wishes.recipe(method),
    )
    integer.save(kept_network(folder, network.name, method, column))
    return lambda images: integer(images).reshape(len(images), -1)


def kept_network(folder: Path, network: str, method: str, column: str) -> Path:
    """Return where the integer network of a cell is kept."""
    name = re.sub(r"\W+", "-", f"{network} {method} {column}")
    return folder / f"{name}.safetensors"


def measure(
    network: Pretrained,
    expected: np.ndarray,
    method: str,
    column: str,
    folder: Path,
    wishes: Wishes,
) -> Cell:
    """Return one cell."""
    started = time.monotonic()
    if method == PEER:
        scheme = parse_scheme(column)
        predict = quantize_brevitas(
            network.module, scheme.weights, scheme.activations, network.calibration, ends=8
        )
    else:
        predict = quantize(network, method, column, folder, wishes)
    seconds = time.monotonic() - started
    outputs = predict(network.images)
    classes, found = expected.argmax(1), outputs.argmax(1)
    difference = (classes == network.labels).astype(float) - (found == network.labels)
    return Cell(
        network.name,
        method,
        column,
        accuracy=round(100 * float((found == network.labels).mean()), 2),
        lost=round(100 * float(difference.mean()), 2),
        error=round(100 * float(difference.std() / np.sqrt(len(difference))), 2),
        changed=int((found != classes).sum()),
        noise=round(100 * float(np.square(outputs - expected).mean() / expected.var()), 3),
        seconds=round(seconds, 1),
    )


def possible(method: str, column: str) -> bool:
    """Return whether a method serves a column: what learns needs data, Brevitas also 8-bit ends."""
    if column in DATA_FREE:
        return method in RECIPES and not RECIPES[method].phases
    return method != PEER or not SCHEMES[column][1]


def error_of(cell: Cell) -> str:
    """Return the squared error of the outputs, two digits of it."""
    return f"{cell.noise:.2g}" if cell.noise < 100 else f"{cell.noise:.0f}"


def loss_of(cell: Cell) -> str:
    """Return the points lost and their standard error."""
    return f"{cell.lost:.1f} ± {cell.error:.1f}"


QUANTITIES: dict[str, Callable[[Cell], str]] = {
    "Squared error of the outputs, per cent of their variance": error_of,
    "Points of top-1 lost, and their paired standard error": loss_of,
}
"""What the tables show, a table for each; the rest is in the JSON."""


def table(cells: list[Cell], network: str, methods: list[str], shown: Callable) -> str:
    """Return the Markdown table of one quantity of one network."""
    chosen = {(cell.method, cell.scheme): cell for cell in cells if cell.network == network}
    columns = [name for name in SCHEMES if any((m, name) in chosen for m in methods)]
    lines = [f"| method | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for method in methods:
        found = [chosen.get((method, column)) for column in columns]
        if any(found):
            row = " | ".join("" if cell is None else shown(cell) for cell in found)
            lines.append(f"| {method} | {row} |")
    return "\n".join(lines)


def tables(cells: list[Cell], floating: dict[str, float], methods: list[str]) -> str:
    """Return the tables of every quantity and network."""
    parts = []
    for title, shown in QUANTITIES.items():
        parts.append(f"### {title}")
        for network, accuracy in floating.items():
            parts.append(f"**{network}**, float {accuracy:.2f} %")
            parts.append(table(cells, network, methods, shown))
    return "\n\n".join(parts)


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("--data", type=Path, required=True, help="see benchmarks/pretrained.py")
    known = [*METHODS, AUGMENTED, PEER, *CODEBOOKS]
    parser.add_argument("--networks", nargs="+", default=list(CONVOLUTIONAL), choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", choices=known, metavar="METHOD")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--ablation", action="store_true", help="the ablation's rows instead")
    rows.add_argument("--codebooks", action="store_true", help="families of codebooks instead")
    parser.add_argument("--calibration", type=int, help="so many calibration images, evenly spread")
    parser.add_argument("--images", type=int, help="so many test images, evenly spread")
    parser.add_argument("--steps", type=int, help="so many steps of learning for each unit")
    parser.add_argument("--override", nargs="+", default=[], help="PATTERN=SCHEME of some layers")
    parser.add_argument("--output", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--again", action="store_true", help="measure these cells once more")
    arguments = parser.parse_args()
    try:
        wishes = Wishes(arguments.steps, parse_overrides(arguments.override))
    except InputError as error:
        parser.error(str(error))
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = next((name for name in ROWS if getattr(arguments, name, False)), "accuracy")
    methods = arguments.methods or ROWS[name]
    schemes = arguments.schemes
    if PEER in methods and find_spec(PEER) is None:
        print(f"{PEER} is left out: pip install 'nupes[benchmarks]' brings it", file=sys.stderr)
        methods = [method for method in methods if method != PEER]
    path = arguments.output / f"{name}.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    cells = [Cell(**cell) for cell in stored.get("cells", [])]
    wanted = set(product(arguments.networks, methods, schemes))
    if arguments.again:
        cells = [cell for cell in cells if (cell.network, cell.method, cell.scheme) not in wanted]
    floating = stored.get("float", {})
    done = {(cell.network, cell.method, cell.scheme) for cell in cells}
    with Progress(transient=True) as bar:
        networks = arguments.networks
        task = bar.add_task("quantizing", total=len(wanted))
        for key in networks:
            try:
                network = load_pretrained(key, arguments.data)
                network = limit(network, arguments.calibration, arguments.images)
            except InputError as error:
                parser.error(str(error))
            expected = outputs_of(network)
            floating[key] = 100 * float((expected.argmax(1) == network.labels).mean())
            for column in schemes:
                for method in methods:
                    bar.update(task, description=f"{key} {column} {method}")
                    if (key, method, column) not in done and possible(method, column):
                        cell = measure(network, expected, method, column, arguments.output, wishes)
                        cells.append(cell)
                        report = {"float": floating, "cells": [asdict(cell) for cell in cells]}
                        save(path, json.dumps(report, indent=1))
                    bar.advance(task)
    text = tables(cells, {key: floating[key] for key in networks}, methods)
    save(arguments.output / f"{name}.md", text + "\n")
    print(text)


def save(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
