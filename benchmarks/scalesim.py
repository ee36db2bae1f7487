"""Exact cycles beside those of SCALE-Sim 3 for the same layers on the same array, in one table.

    pip install -e ".[benchmarks]"
    python -m benchmarks.scalesim --data DIR [--networks resnet8,resnet20] [--array 16x16]

SCALE-Sim (https://github.com/scalesim-project/scale-sim-v2) gets every convolution and linear layer
as the product that it is, M pixels x K operands x N channels, weight-stationary and
output-stationary, with as much memory bandwidth as it asks for.
"""

import csv
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.inputs import parse_array
from nupes.model.operators import Conv

CALIBRATION = 16
DATAFLOWS = ("ws", "os")

CONFIG = """
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 100
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def products(network: nupes.IntegerNetwork) -> dict[str, tuple[int, int, int]]:
    """Return (M, N, K) of every convolution and linear layer by name; groups are not supported."""
    found = {}
    for layer in network.layers:
        if isinstance(layer.op, Conv):
            if layer.op.groups != 1:
                raise nupes.InputError(f"layer {layer.name!r}: groups must be 1 for this table")
            height, width, channels = layer.output.shape
            found[layer.name] = height * width, channels, layer.op.codes[0].size
    return found


def scalesim_cycles(
    sizes: dict[str, tuple[int, int, int]], array: nupes.ArrayConfig, dataflow: str
) -> dict[str, int]:
    """Return the cycles that SCALE-Sim gives each product."""
    from scalesim.scale_sim import scalesim  # pyright: ignore[reportMissingImports] - an extra

    # Version 3.0.0 takes maxima of vectors with one element as integers, which NumPy refuses since
    # 2.4.
    for name, module in list(sys.modules.items()):
        if name.startswith("scalesim.memory."):
            vars(module)["max"] = lambda *values: np.ravel(max(*values))[0]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        lines = [f"l{i}, {m}, {n}, {k}," for i, (m, n, k) in enumerate(sizes.values())]
        (folder / "net.csv").write_text("\n".join(["layer, M, N, K,", *lines]) + "\n")
        config = CONFIG.format(rows=array.rows, cols=array.cols, dataflow=dataflow)
        (folder / "array.cfg").write_text(config)
        (folder / "layout.csv").write_text("it wants a file, and reads no line of it\n")
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            simulation = scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(folder / "array.cfg"),
                topology=str(folder / "net.csv"),
                layout=str(folder / "layout.csv"),
                input_type_gemm=True,
            )
            simulation.run_scale(top_path=str(folder))
        (report,) = folder.rglob("COMPUTE_REPORT.csv")
        with report.open() as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    return {name: round(float(row["Total Cycles"])) for name, row in zip(sizes, rows, strict=True)}


def compare(name: str, data: Path, array: nupes.ArrayConfig) -> Table:
    """Return the table of one network."""
    trained = load_pretrained(name, data)
    integer = nupes.quantize(
        trained.module,
        "W4A4",
        calibration=trained.calibration[:CALIBRATION],
        method="rtn",
        ends=None,
        input_bits=8,
    )
    program = nupes.compile(integer, array)
    sizes = products(integer)
    theirs = [scalesim_cycles(sizes, array, dataflow) for dataflow in DATAFLOWS]
    table = Table(f"{name} on {array}", box=None, pad_edge=False, show_footer=True)
    columns = ["MACs", "MAC bound", *(f"SCALE-Sim {dataflow}" for dataflow in DATAFLOWS), "nupes"]
    lines = []
    for layer in program.layers:
        their = [cycles.get(layer.name, 0) for cycles in theirs]
        lines.append((layer.name, layer.macs, round(layer.mac_bound), *their, layer.cycles))
    for position, title in enumerate(columns, start=1):
        total = sum(line[position] for line in lines)
        table.add_column(title, footer=f"{total:,}", justify="right")
    table.columns[0].footer = "total"
    for label, *values in lines:
        table.add_row(label, *(f"{value:,}" if value else "-" for value in values))
    return table


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    networks: Annotated[str, typer.Option(help="Comma-separated names.")] = "resnet8,resnet20",
    array: Annotated[str, typer.Option(help="Rows x columns.")] = "16x16",
) -> None:
    """Print cycles of published networks beside those of SCALE-Sim."""
    for name in networks.split(","):
        console = Console(soft_wrap=True, highlight=False)
        console.print(compare(name, data, parse_array(array)))
        console.print()


if __name__ == "__main__":
    typer.run(main)
