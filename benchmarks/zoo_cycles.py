"""Cycles of networks of torchvision and timm, on images of any size and with any memory.

    python -m benchmarks.zoo_cycles [--networks NAMES] [--array 16x16]... [--batch N]
    python -m benchmarks.zoo_cycles --size 224 --array 16x16,act_depth=8192,spills=1 --simulate

The networks are those of ``benchmarks/zoo.py`` with random weights, quantized by ``rtn`` at W4A4;
the cycles are predicted; with ``--simulate`` the simulated hardware runs random images, and every
output and every layer's cycles are compared. Needs torchvision and timm (extra ``coverage``).
"""

from typing import Annotated

import numpy as np
import typer
from rich.table import Table

import nupes
from benchmarks.acceptance import quantize, shape_of
from benchmarks.zoo import build
from nupes.console import print_table
from nupes.inputs import parse_array

NETWORKS = "torchvision/resnet18,torchvision/mobilenet_v2,timm/efficientnet_lite0"

SEED = 0

TIMEOUT = 7200.0
"""Seconds that a simulation may take."""


def differences(program: nupes.Program) -> str:
    """Return what is not as predicted when random images run on the RTL, ``exact`` if all is."""
    network = program.network
    shape = network.inputs[0].tensor.shape
    images = np.random.default_rng(SEED).normal(size=(program.batch, shape[2], *shape[:2]))
    with nupes.Simulator(program.array, timeout=TIMEOUT) as hardware:
        run = hardware.run(program, images.astype(np.float32))
    equal = {
        "outputs": np.array_equal(run.outputs, network(images.astype(np.float32))),
        "cycles": run.cycles == [program.cycles],
        "layers": np.array_equal(run.layer_cycles[0], [layer.cycles for layer in program.layers]),
    }
    return ", ".join(name for name, same in equal.items() if not same) or "exact"


def main(
    networks: Annotated[str, typer.Option(help="Comma-separated networks.")] = NETWORKS,
    array: Annotated[list[str] | None, typer.Option(help="Arrays to compile for.")] = None,
    size: Annotated[int, typer.Option(help="Height and width of images.")] = 64,
    batch: Annotated[int, typer.Option(help="Images of a run.")] = 1,
    simulate: Annotated[bool, typer.Option("--simulate", help="Compare with the RTL.")] = False,
) -> None:
    """Print cycles of an image and utilization of each network on each array."""
    table = Table("network", "array", box=None, pad_edge=False)
    for column in ("cycles", "MACs over cells", "utilization", "words of the port"):
        table.add_column(column, justify="right")
    table.add_column("on the RTL" if simulate else "")
    arrays = array or ["16x16"]
    for name in networks.split(","):
        module = build(name, SEED)
        network = quantize(module, shape_of(name, module, size), SEED)
        for wanted in arrays:
            config = parse_array(wanted)
            program = nupes.compile(network, config, batch=batch)
            bound = sum(layer.macs for layer in program.layers) / (config.rows * config.cols)
            table.add_row(
                name, wanted, f"{program.cycles_per_image:,.0f}", f"{bound / batch:,.0f}",
                f"{100 * bound / program.cycles:.1f} %", f"{len(program.image) / batch:,.0f}",
                differences(program) if simulate else "",
            )  # fmt: skip
    print_table(table)


if __name__ == "__main__":
    typer.run(main)
