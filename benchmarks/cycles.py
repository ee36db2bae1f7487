"""Exact cycles, bounds and losses of the published networks on square arrays.

    python -m benchmarks.cycles --data DIR [--networks resnet8,dscnn] [--arrays 8x8,16x16,32x32]

The cycles depend on shapes and bits, not on weights, so a small calibration set is enough. ``W4A4``
with 8-bit ends, and ``W4A4`` with 4-bit ends where only the network input keeps 8 bits.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.commands.compile import loss_table
from nupes.console import print_table
from nupes.inputs import parse_array
from nupes.model.operators import Conv

CALIBRATION = 16
WIDE = 16
"""Input channels from which a layer counts as wide."""

ENDS = {"8-bit ends": 8, "4-bit ends": None}


def measure(
    name: str, data: Path, arrays: list[str], residual_bits: int
) -> list[tuple[str, str, str, nupes.Program]]:
    """Return (network, ends, array, program) of one network on every array."""
    network = load_pretrained(name, data)
    rows = []
    for label, ends in ENDS.items():
        integer = nupes.quantize(
            network.module,
            "W4A4",
            calibration=network.calibration[:CALIBRATION],
            method="rtn",
            ends=ends,
            input_bits=8,
            residual_bits=residual_bits,
        )
        for size in arrays:
            program = nupes.compile(integer, parse_array(size))
            rows.append((name, label, size, program))
    return rows


def summary(rows: list[tuple[str, str, str, nupes.Program]]) -> Table:
    """Return one line per program: cycles, bounds, utilization."""
    table = Table("network", "ends", "array", box=None, pad_edge=False)
    for column in ("cycles", "MAC bound", "tile bound", "memory bound", "utilization"):
        table.add_column(column, justify="right")
    for name, ends, size, program in rows:
        layers = program.layers
        table.add_row(
            name,
            ends,
            size,
            f"{program.cycles:,}",
            f"{sum(layer.mac_bound for layer in layers):,.0f}",
            f"{sum(layer.tile_bound for layer in layers):,}",
            f"{sum(layer.memory_bound for layer in layers):,}",
            f"{program.utilization:.1%}",
        )
    return table


def busy(rows: list[tuple[str, str, str, nupes.Program]]) -> Table:
    """Return how busy 3x3 convolutions of at least 16 channels keep the array, by stride.

    The layer that does worst counts, in MACs per cell and cycle (``busy``) and in cycles over its
    tile bound (``beyond``).
    """
    table = Table("network", "ends", "array", box=None, pad_edge=False)
    for column in ("stride", "layers", "busy", "beyond tile bound"):
        table.add_column(column, justify="right")
    for name, ends, size, program in rows:
        for stride in (1, 2):
            pairs = zip(program.network.layers, program.layers, strict=True)
            found = [
                report
                for layer, report in pairs
                if isinstance(layer.op, Conv)
                and (layer.op.kernel, layer.op.stride) == ((3, 3), (stride, stride))
                and layer.op.groups == 1
                and program.network.tensors[layer.inputs[0].tensor].shape[2] >= WIDE
            ]
            if found:
                worst = max(layer.cycles / layer.tile_bound - 1 for layer in found)
                least = min(layer.utilization for layer in found)
                table.add_row(
                    name, ends, size, str(stride), str(len(found)), f"{least:.1%}", f"{worst:.1%}"
                )
    return table


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    networks: Annotated[
        str, typer.Option(help="Comma-separated names.")
    ] = "resnet8,resnet20,dscnn",
    arrays: Annotated[str, typer.Option(help="Comma-separated sizes.")] = "8x8,16x16,32x32",
    residual_bits: Annotated[int, typer.Option(help="Bits of tensors that are only added.")] = 8,
    layers: Annotated[bool, typer.Option(help="Print every layer's bounds and losses.")] = False,
) -> None:
    """Print exact cycles of published networks."""
    rows = []
    for name in networks.split(","):
        rows += measure(name, data, arrays.split(","), residual_bits)
    print_table(summary(rows))
    print(f"\n3x3 convolutions of at least {WIDE} channels, the worst layer")
    print_table(busy(rows))
    if layers:
        for name, ends, size, program in rows:
            print(f"\n{name}, {ends}, {size}")
            print_table(loss_table(program))


if __name__ == "__main__":
    typer.run(main)
