"""Cycles that the AXI4 bus adds to those of the accelerator alone, on ResNet-8.

    python -m benchmarks.bus --data DIR [--arrays 8x8,16x16] [--images 3] [--latency 20]

The bus's memory answers a burst after ``--latency`` cycles, as that of the accelerator alone does,
whose cycles are those predicted. The exit status is 1 if any output integer differs.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.console import print_table
from nupes.inputs import parse_array

CALIBRATION = 64


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")] = Path("data"),
    arrays: Annotated[str, typer.Option(help="Comma-separated arrays.")] = "8x8,16x16",
    images: Annotated[int, typer.Option(help="Images on each.")] = 3,
    latency: Annotated[int, typer.Option(help="Cycles from a burst to its first word.")] = 20,
) -> None:
    """Print the cycles of an image with a bus and without."""
    trained = load_pretrained("resnet8", data)
    network = nupes.quantize(
        trained.module, "W4A4", trained.calibration[:CALIBRATION], method="rtn"
    )
    x = trained.images[:images]
    table = Table("array", box=None, pad_edge=False)
    for column in ("beat", "without bus", "with bus", "difference", "integers"):
        table.add_column(column, justify="right")
    exact = True
    for text in arrays.split(","):
        program = nupes.compile(network, parse_array(text), latency=latency)
        with nupes.Simulator(program.array, bus="axi4") as hardware:
            result = hardware.run(program, x)
            bits = hardware.bus_bits
        equal = np.array_equal(result.outputs, network(x))
        exact &= equal
        most = max(result.cycles)
        table.add_row(
            text, f"{bits} bits", f"{program.cycles:,}", f"{most:,}",
            f"{most / program.cycles - 1:.3%}", "equal" if equal else "MISMATCH",
        )  # fmt: skip
    print_table(table)
    raise typer.Exit(int(not exact))


if __name__ == "__main__":
    typer.run(main)
