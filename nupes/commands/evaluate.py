"""``nupes evaluate``: accuracy of an integer network, and of the float model beside it."""

from typing import Annotated

import numpy as np
import typer

from nupes.commands.options import MODEL_HELP, Data, Json, Network
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import load_arrays, load_labels, load_model, run_model
from nupes.model.artifact.reader import load

__all__ = ["accuracy", "run"]


def accuracy(results: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of results (b, ...) whose greatest value is at the label."""
    return float((results.reshape(len(results), -1).argmax(axis=1) == labels).mean())


def run(
    network: Network,
    data: Data,
    labels: Annotated[
        str, typer.Option(metavar="KEY", help="Key of the classes: one integer per image.")
    ] = "y",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare with this float model: " + MODEL_HELP),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the accuracy of an integer network on labelled images.

    [bold]Examples[/]

    nupes evaluate net.safetensors test.npz

    nupes evaluate net.safetensors data.npz:images --labels classes --model model.py:load
    """
    qnet = load(network)
    _ = qnet.the_output  # classes are those of one
    images = load_arrays(data)
    count = len(images[0])
    classes = load_labels(data, labels, count)
    report: dict[str, float | int] = {"images": count}
    with Reporter() as progress:
        progress(f"running the integer network on {count} images")
        report["integer"] = accuracy(qnet(*images), classes)
        if model is not None:
            progress(f"running the float model on {count} images")
            report["float"] = accuracy(run_model(load_model(model), *images), classes)
    if json:
        print_json(report)
        return
    print_text(f"integer accuracy {report['integer']:.2%} of {count} images")
    if model is not None:
        print_text(f"float accuracy   {report['float']:.2%}")
