"""``nupes report``: what is known of a network, on one page."""

import json as json_format
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import numpy as np
import typer

from nupes.arch.costs import memory_bits
from nupes.commands.evaluate import accuracy as measure
from nupes.commands.options import MODEL_HELP, Array, Json, Network
from nupes.compiler.program import compile
from nupes.console import Reporter, print_json, print_text
from nupes.explore.sweeps import grid, sweep
from nupes.inputs import (
    has_labels,
    load_arrays,
    load_labels,
    load_model,
    parse_array,
    run_model,
)
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.files import check_output, write_atomically
from nupes.model.network import IntegerNetwork
from nupes.report.gather import Accuracy, Result, gather_layers, gather_size, observe_codes
from nupes.report.gather import parse_accuracy as parse

__all__ = ["run"]

SIZES = (4, 8, 16, 32, 64)
"""Rows and columns of the arrays that are compared."""

OBSERVED = 64
"""Images whose activations are counted."""


def import_page() -> ModuleType:
    """Return the module that draws pages; say how to get what it needs."""
    try:
        return import_module("nupes.report.page")
    except ModuleNotFoundError as error:
        raise InputError(
            f"the report needs {error.name}, which is not installed; "
            'run: pip install "nupes[report]"'
        ) from error


def load_results(path: Path | None) -> list[Result]:
    """Return the accuracies of a JSON file."""
    if path is None:
        return []
    try:
        return parse(json_format.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json_format.JSONDecodeError) as error:
        raise InputError(f"accuracies {path} must be a JSON file: {error}") from error


def measure_accuracy(
    network: IntegerNetwork,
    data: str,
    labels: str,
    images: tuple[np.ndarray, ...],
    model: str | None,
) -> Accuracy | None:
    """Return the accuracies on data with labels, None if it has none."""
    if not has_labels(data, labels):
        if model is not None:
            raise InputError(f"labels {labels!r} must be in the data to compare with a model")
        return None
    _ = network.the_output  # classes are those of one
    count = len(images[0])
    classes = load_labels(data, labels, count)
    real = None
    if model is not None:
        real = measure(run_model(load_model(model), *images), classes)
    return Accuracy(count, measure(network(*images), classes), real)


def run(
    network: Network,
    array: Array = "16x16",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page.")
    ] = Path("report.html"),
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="FILE.npz[:KEY], images (b, c, h, w): counts activations and saturations, and "
            "measures accuracy if the file has labels.",
        ),
    ] = None,
    labels: Annotated[
        str, typer.Option(metavar="KEY", help="Key of the classes: one integer per image.")
    ] = "y",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Float model to compare with: " + MODEL_HELP),
    ] = None,
    accuracy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON list of {"bits", "accuracy", "series"}: accuracy against bits.',
        ),
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Synthesize the array as well, a minute or more: xilinx, ecp5; see `nupes area`.",
        ),
    ] = None,
    sizes: Annotated[
        bool, typer.Option("--sweep/--no-sweep", help="Compare arrays from 4x4 to 64x64.")
    ] = True,
    json: Json = False,
) -> None:
    """Write all that is known of a network on one page of HTML.

    The page needs no network access: size, accuracy, exact cycles, where they go, every layer's
    codes.

    [bold]Examples[/]

    nupes report net.safetensors -o report.html

    nupes report net.safetensors --array 8x8 --images test.npz --model model.py:load

    nupes report net.safetensors --area xilinx --accuracy bits.json
    """
    config = parse_array(array)
    check_output(output)
    results = load_results(accuracy)
    if model is not None and images is None:
        raise InputError("images must be given to compare with a model: --images DATA")
    if area is not None:
        from nupes.synthesis.areas import array_area
        from nupes.synthesis.tools import check_target

        check_target(area)
    qnet = load(network)
    inputs = None if images is None else load_arrays(images)
    with Reporter() as progress:
        page = import_page()
        progress(f"compiling for {config}")
        program = compile(qnet, config)
        observed, measured = None, None
        if inputs is not None and images is not None:
            progress(f"running {len(inputs[0])} images")
            measured = measure_accuracy(qnet, images, labels, inputs, model)
            observed = observe_codes(qnet, *(array[:OBSERVED] for array in inputs))
        points = []
        if sizes:
            progress("comparing arrays")
            points = sweep(qnet, grid(SIZES, SIZES, (config.acc_depth,), config), program.latency)
        parts = None if area is None else array_area(config, area, progress=progress)
        progress("drawing")
        facts = page.Facts(
            title=network.stem,
            network=qnet,
            size=gather_size(qnet, network.stat().st_size),
            layers=gather_layers(qnet, program, observed),
            program=program,
            memory_bits=memory_bits(config),
            area=parts,
            accuracy=measured,
            images=0 if inputs is None else len(inputs[0][:OBSERVED]),
            points=points,
            results=results,
        )
        text = page.render(facts)
        write_atomically(output, text.encode())
    if json:
        print_json(
            {
                "path": str(output),
                "bytes": len(text.encode()),
                "cycles": program.cycles,
                "utilization": program.utilization,
                "packed_bytes": facts.size.packed,
                "float_bytes": facts.size.floats,
                "area": None if parts is None else parts.total.as_dict(),
                "accuracy": None if measured is None else measured.integer,
                "float_accuracy": None if measured is None else measured.real,
            }
        )
        return
    print_text(f"{output}: {len(qnet.layers)} layers, {len(text.encode()) / 1024:,.0f} KiB")
