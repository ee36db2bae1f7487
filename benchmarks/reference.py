"""Speed of the integer reference model beside the float network in eager PyTorch, in one run.

    python -m benchmarks.reference --data DIR [--network resnet8] [--images 1000]

Both get the same images in the same batches, one after the other, ``--rounds`` times; the median
and the best round are printed. Before that the bound of every product is listed: below 2**24 it is
exact in float32, below 2**53 in float64 (``nupes.model.arithmetic.exact_matmul`` refuses more).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.model.arithmetic import exact_float
from nupes.model.operators import Conv

CALIBRATION = 64


def bounds(network: nupes.IntegerNetwork) -> Table:
    """Return the bound of every layer's product, and the type that holds it."""
    table = Table("layer", box=None, pad_edge=False)
    table.add_column("bound", justify="right")
    table.add_column("bits", justify="right")
    table.add_column("exact in")
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            bound = network.bounds[layer.name]
            dtype = np.dtype(exact_float(bound)).name
            table.add_row(layer.name, f"{bound:,}", str(bound.bit_length()), dtype)
    return table


def rate(run: Callable[[np.ndarray], object], images: np.ndarray, batch: int) -> float:
    """Return images per second of a callable that takes batches."""
    started = time.perf_counter()
    for first in range(0, len(images), batch):
        run(images[first : first + batch])
    return len(images) / (time.perf_counter() - started)


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    network: Annotated[str, typer.Option(help="resnet8, resnet20 or dscnn.")] = "resnet8",
    images: Annotated[int, typer.Option(help="How many images.")] = 1000,
    batches: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,16,64,1000",
    rounds: Annotated[int, typer.Option(help="Rounds of each.")] = 5,
) -> None:
    """Compare the speed of the integer model with that of the float network."""
    trained = load_pretrained(network, data)
    module = trained.module.eval()
    torch.set_num_threads(os.cpu_count() or 1)
    inputs = trained.images[:images]
    integer = nupes.quantize(
        module, "W4A4", calibration=trained.calibration[:CALIBRATION], method="rtn"
    )

    def run_float(part: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return module(torch.from_numpy(part))

    console = Console(soft_wrap=True, highlight=False)
    console.print(bounds(integer))
    table = Table("batch", box=None, pad_edge=False)
    for title in ("integer, median", "float, median", "ratio", "integer, best", "float, best"):
        table.add_column(title, justify="right")
    for batch in map(int, batches.split(",")):
        part = inputs if batch > 1 else inputs[: len(inputs) // 10]
        for run in (integer, run_float):
            run(part[:batch])  # once, not timed
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(rate(integer, part, batch))
            theirs.append(rate(run_float, part, batch))
        values = (median(ours), median(theirs), max(ours), max(theirs))
        first, second, best, other = (f"{value:,.0f}" for value in values)
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        table.add_row(str(batch), first, second, f"{ratio:.2f}", best, other)
    console.print()
    console.print(f"{network}: images/s on {os.cpu_count()} cores, {rounds} rounds")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
