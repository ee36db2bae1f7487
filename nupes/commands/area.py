"""``nupes area``: what an array takes on an FPGA or as gates."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nupes.commands.options import Array, Json
from nupes.console import Reporter, print_json, print_table, print_text
from nupes.inputs import parse_array

__all__ = ["run"]

COLUMNS = ("luts", "lutram", "flops", "carry", "dsp", "block_ram")
GATES = ("gates", "transistors", "memory_bits", "area")


def run(
    array: Array = "16x16",
    target: Annotated[
        str,
        typer.Option(metavar="NAME", help="xilinx, xilinx-dsp, ecp5, ecp5-dsp or asic."),
    ] = "xilinx",
    liberty: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Library of cells (.lib) for --target asic."),
    ] = None,
    cells: Annotated[
        bool, typer.Option("--cells", help="Compare one cell of each kind instead.")
    ] = False,
    fmax: Annotated[
        bool,
        typer.Option(
            "--fmax", help="Also place and route cells and decoders on an ECP5 (minutes)."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Synthesize the parts of an accelerator with Yosys.

    Takes minutes; results are kept. Parts meet at registers, so they add up. LUTs include those
    used as memory (lutram); gates are without the bits of memories.
    Needs the extra [bold]area[/]: pip install "nupes\\[area]".

    [bold]Examples[/]

    nupes area --array 16x16,mac=square

    nupes area --array 16x16,code_bits=3 --cells --target ecp5

    nupes area --array 8x8,mac=pair --target asic --liberty cells.lib
    """
    from nupes.synthesis.areas import array_area, array_fmax, compare_cells
    from nupes.synthesis.tools import check_target

    config = parse_array(array)
    check_target(target, liberty)
    names = GATES if target == "asic" else COLUMNS
    table = Table("part" if not cells else "cell", box=None, pad_edge=False)
    with Reporter() as report:
        if cells:
            rows = compare_cells(config, target, liberty, report)
            for name in ("activations", "sum bits", *names):
                table.add_column(name.replace("_", " "), justify="right")
            for row in rows:
                values = (f"{row[name]:,.0f}" for name in names)
                table.add_row(row["cell"], row["activations"], str(row["sum_bits"]), *values)
            result = {"target": target, "code_bits": config.code_bits, "cells": rows}
        else:
            found = array_area(config, target, liberty, report)
            for name in ("number", *names):
                table.add_column(name.replace("_", " "), justify="right")
            for name, part in found.parts.items():
                values = (f"{getattr(part, column):,.0f}" for column in names)
                table.add_row(name, f"{found.counts[name]:,}", *values)
            total = (f"{getattr(found.total, column):,.0f}" for column in names)
            table.add_row(f"{config} {config.mac}", "", *total)
            result = found.as_dict()
        if fmax:
            report(f"placing and routing the {config} array on an ECP5")
            result["fmax_mhz"] = array_fmax(config)
    if json:
        print_json(result)
        return
    print_table(table)
    if fmax:
        print_text(f"ECP5, cells and edge decoders: {result['fmax_mhz']:.1f} MHz")
