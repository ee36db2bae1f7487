"""``nupes compile``: what a network costs on an array, and the program that runs it."""

import io
import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from nupes.commands.options import Array, Batch, Json, Network, Trace
from nupes.compiler.place.memory import MOST_DEPTH
from nupes.compiler.program import Program, check_batch, check_latency, compile
from nupes.compiler.report.trace import chrome_trace
from nupes.console import print_json, print_table, print_text
from nupes.inputs import parse_array
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.files import check_output, write_atomically

__all__ = ["check_trace", "describe", "layer_table", "loss_table", "run", "trace_bytes"]


WIDER = (2, 4)
"""How many times the bits of the port others would have."""


def describe(program: Program) -> dict[str, Any]:
    """Return a program's costs as JSON data."""
    return {
        "array": str(program.array),
        "latency": program.latency,
        "batch": program.batch,
        "cycles": program.cycles,
        "cycles_per_image": program.cycles_per_image,
        "macs": sum(layer.macs for layer in program.layers),
        "utilization": program.utilization,
        "spilled": sorted(program.schedule.spilled),
        **program.total_accesses.as_dict(),
        "layers": program.describe_layers(),
    }


def layer_table(program: Program) -> Table:
    """Return the costs of every layer and their total."""
    table = Table("layer", box=None, show_footer=True, pad_edge=False)
    table.columns[0].footer = "total"
    totals = (
        f"{program.cycles:,}",
        f"{sum(layer.tiles for layer in program.layers):,}",
        f"{sum(layer.macs for layer in program.layers):,}",
        f"{program.utilization:.1%}",
    )
    for name, total in zip(("cycles", "tiles", "MACs", "utilization"), totals, strict=True):
        table.add_column(name, footer=total, justify="right")
    for layer in program.layers:
        table.add_row(
            layer.name,
            f"{layer.cycles:,}",
            f"{layer.tiles:,}",
            f"{layer.macs:,}",
            f"{layer.utilization:.1%}" if layer.macs else "-",
        )
    return table


def loss_table(program: Program) -> Table:
    """Return every layer's bounds and where its other cycles go, in cycles."""
    losses = ("edge", "requantization", "weights", "memory", "dependency")
    titles = ("edge", "requant", "weights", "memory", "depend")
    table = Table("layer", box=None, pad_edge=False)
    for title in ("cycles", "MAC bound", "tile bound", "memory bound", *titles):
        table.add_column(title, justify="right")
    for layer in program.layers:
        bounds = (layer.mac_bound, layer.tile_bound, layer.memory_bound)
        lost = [getattr(layer.losses, name) for name in losses]
        values = (layer.cycles, *bounds, *lost)
        table.add_row(layer.name, *(f"{value:,.0f}" for value in values))
    return table


def describe_ports(program: Program) -> str:
    """Return what a wider port would save."""
    found = []
    for times in WIDER:
        cycles = program.cycles_with_port(times)
        saved = program.cycles - cycles
        found.append(
            f"{times * program.array.port_bits} bits: {cycles:,} cycles, {saved:,} fewer "
            f"({saved / program.cycles:.1%})"
        )
    return (
        f"the port has {program.array.port_bits} bits; if it had more, and as many more rows of "
        f"weights came in a cycle, which no array does yet: {'; '.join(found)}"
    )


def describe_spilled(program: Program) -> str:
    """Return what lies in the program's memory, and what a larger activation memory would save."""
    stored = sum(layer.stored for layer in program.layers)
    loaded = sum(layer.loaded for layer in program.layers)
    larger = replace(program.array, act_depth=MOST_DEPTH)
    whole = compile(program.network, larger, program.latency, program.batch)
    return (
        f"{len(program.schedule.spilled)} tensors lie in the program's memory: {stored:,} words "
        f"stored, {loaded:,} loaded; with act_depth={whole.schedule.act_words} none would, in "
        f"{whole.cycles:,} cycles"
    )


def program_bytes(program: Program, suffix: str) -> bytes:
    """Return the file of a program: ``.npz``, or ``.hex`` for Verilog's ``$readmemh``."""
    if suffix == ".hex":
        from nupes.sim.files import image_text

        return image_text(program.image, program.array.port_bits)
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        image=program.image,
        input_addresses=program.holes,
        report=np.array(json_format.dumps(describe(program))),
    )
    return stream.getvalue()


def check_trace(path: Path | None) -> None:
    """Refuse a trace that could not be written at the end of the work."""
    if path is not None:
        if path.suffix != ".json":
            raise InputError(f"trace must be saved as .json, not {str(path)!r}")
        check_output(path)


def trace_bytes(program: Program) -> bytes:
    """Return the file of a program's trace."""
    return json_format.dumps(chrome_trace(program)).encode()


def run(
    network: Network,
    array: Array = "16x16",
    latency: Annotated[
        int, typer.Option(metavar="CYCLES", help="Latency of the external memory, in cycles.")
    ] = 20,
    batch: Batch = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Save the program's memory image: .npz (image, input addresses, report) "
            "or .hex (for $readmemh).",
        ),
    ] = None,
    losses: Annotated[
        bool,
        typer.Option(
            "--losses",
            help="Print each layer's bounds and losses, in cycles, and what a wider port saves.",
        ),
    ] = False,
    trace: Trace = None,
    json: Json = False,
) -> None:
    """Predict the exact cycles of a network, layer by layer.

    MACs are multiply-accumulates of one image, or of a batch.
    Utilization is MACs per processing element and cycle.

    [bold]Examples[/]

    nupes compile net.safetensors --array 16x16

    nupes compile net.safetensors --array 8x16,act_depth=16384 -o program.npz
    """
    config = parse_array(array)
    check_latency(latency)
    check_batch(batch)
    if output is not None:
        if output.suffix not in (".npz", ".hex"):
            raise InputError(f"program must be saved as .npz or .hex, not {str(output)!r}")
        check_output(output)
    check_trace(trace)
    program = compile(load(network), config, latency, batch)
    if output is not None:
        write_atomically(output, program_bytes(program, output.suffix))
    if trace is not None:
        write_atomically(trace, trace_bytes(program))
    if json:
        print_json(describe(program))
        return
    print_table(layer_table(program))
    if batch > 1:
        print_text(f"cycles per image, {batch} together: {program.cycles_per_image:,.1f}")
    if program.schedule.spilled:
        print_text(describe_spilled(program))
    if losses:
        print_text("")
        print_table(loss_table(program))
        print_text(describe_ports(program))
    if output is not None:
        print_text(f"program: {output} ({len(program.image):,} words of {config.port_bits} bits)")
