"""``nupes sweep``: exact cycles of a network on many arrays, and the arrays worth building."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nupes.arch.config import ArrayConfig
from nupes.commands.options import Json, Network
from nupes.compiler.program import check_latency
from nupes.console import Reporter, print_json, print_table
from nupes.explore.sweeps import Point, grid, pareto, sweep
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError

__all__ = ["run"]

SIZES = "8,12,16,24,32,48,64"
DEPTHS = "128,256,512,1024"


def parse_sizes(text: str, name: str) -> list[int]:
    """Return the integers of a comma-separated list, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f'{name} must be integers, such as "8,16,32", not {text!r}')
    return list(dict.fromkeys(int(part) for part in parts))


def point_table(points: Iterable[Point], luts: bool) -> Table:
    """Return one line per array, with its LUTs or without."""
    table = Table("array", box=None, pad_edge=False)
    titles = ("cycles", "utilization", "cells", *(["LUTs"] * luts), "memory KiB", "acc_depth")
    for title in (*titles, "act_depth"):
        table.add_column(title, justify="right")
    for point in points:
        table.add_row(
            str(point.array),
            f"{point.cycles:,}",
            f"{point.utilization:.1%}",
            f"{point.cells:,}",
            *([f"{point.luts:,}"] if luts else []),
            f"{point.memory_bits / 8192:,.1f}",
            str(point.array.acc_depth),
            str(point.array.act_depth),
        )
    return table


def check_fpga(target: str) -> None:
    """Refuse a target without LUTs; check the tool."""
    from nupes.synthesis.tools import check_target

    check_target(target)
    if target == "asic":
        raise InputError("luts must be xilinx, xilinx-dsp, ecp5 or ecp5-dsp, not 'asic'")


def measure(points: list[Point], target: str, report: Reporter) -> list[Point]:
    """Return the points with their LUTs."""
    from nupes.synthesis.areas import luts_of

    fitting = [point for point in points if not point.refusal]
    report("synthesizing every size of array, once")
    luts = iter(luts_of((point.array for point in fitting), target, report.count))
    return [point if point.refusal else replace(point, luts=next(luts)) for point in points]


def run(
    network: Network,
    rows: Annotated[str, typer.Option(metavar="LIST", help="Rows, 2 to 64.")] = SIZES,
    cols: Annotated[str, typer.Option(metavar="LIST", help="Columns, 2 to 64.")] = SIZES,
    acc_depth: Annotated[
        str, typer.Option(metavar="LIST", help="Words of the accumulator memory, 4 to 4096.")
    ] = DEPTHS,
    code_bits: Annotated[
        int, typer.Option(metavar="BITS", help="Bits of an operand on the array, 2 to 8.")
    ] = 4,
    mac: Annotated[
        str,
        typer.Option(metavar="KIND", help="Cells: decode, uniform, square or pair."),
    ] = "decode",
    luts: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help="Measure LUTs and compare them in place of cells: xilinx, xilinx-dsp, ecp5 or "
            "ecp5-dsp (about a minute for each size of array, once; see `nupes area`).",
        ),
    ] = "",
    latency: Annotated[
        int, typer.Option(metavar="CYCLES", help="Latency of the external memory, in cycles.")
    ] = 20,
    every: Annotated[
        bool, typer.Option("--every", help="Print every array, not only those worth building.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="Processes; 0: one per core of this machine.")
    ] = 0,
    json: Json = False,
) -> None:
    """Compare arrays: exact cycles of a network on each of them.

    The table holds the arrays that no other one beats in cycles, cells (or LUTs) and memory at
    once.
    Sizes that do not divide each other are left out; the activation memory has the words that the
    program uses.

    [bold]Examples[/]

    nupes sweep net.safetensors

    nupes sweep net.safetensors --rows 4,8,16 --cols 16 --acc-depth 512 --every

    nupes sweep net.safetensors --rows 8,16 --cols 8,16 --mac square --luts xilinx
    """
    check_latency(latency)
    if jobs < 0:
        raise InputError(f"jobs must be at least 0, not {jobs}")
    if luts:
        check_fpga(luts)
    arrays = grid(
        parse_sizes(rows, "rows"),
        parse_sizes(cols, "cols"),
        parse_sizes(acc_depth, "acc_depth"),
        ArrayConfig(code_bits=code_bits, mac=mac, tensor_bits=max(8, code_bits)),
    )
    qnet = load(network)
    with Reporter() as report:
        report(f"compiling for {len(arrays)} arrays")
        points = sweep(qnet, arrays, latency, jobs or os.cpu_count() or 1, report.count)
        if luts:
            points = measure(points, luts, report)
    front = pareto(points)
    if json:
        print_json(
            {
                "latency": latency,
                "points": [point.as_dict() | {"pareto": point in front} for point in points],
            }
        )
        return
    console = Console(soft_wrap=True, highlight=False)
    fitting = [point for point in points if not point.refusal]
    shown = sorted(fitting, key=lambda p: p.costs) if every else front
    print_table(point_table(shown, bool(luts)))
    console.print(f"{len(front)} of {len(points)} arrays are beaten by no other")
    refusals = {point.refusal: point.array for point in points if point.refusal}
    if refusals:
        reason, array = next(iter(refusals.items()))
        count = len(points) - len(fitting)
        console.print(f"{count} arrays cannot run the network; {array}: {reason}", markup=False)
