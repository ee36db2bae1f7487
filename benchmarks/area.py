"""Area of the cells and of whole accelerators, as Markdown and as JSON.

    python -m benchmarks.area [--bits 2,3,4,8] [--targets xilinx,ecp5,asic] [--array 16x16]
        [--fmax 4x4,8x8] -o out/area

Every number is one synthesis, kept by content; the first run takes an hour, and can be stopped and
repeated.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nupes.arch.cells import CELLS
from nupes.inputs import parse_array
from nupes.model.files import check_output
from nupes.synthesis.areas import (
    PARTS,
    ArrayArea,
    array_area,
    array_fmax,
    cell_config,
    compare_cells,
)

EQUAL_SUM_BITS = 24
"""Partial sums of the comparison at equal widths."""

CODE_BITS = 4
"""Codes of the whole arrays."""


def figure(target: str) -> str:
    """Return what is compared on a target."""
    return "gates" if target == "asic" else "luts"


def markdown(title: str, rows: list[list[str]]) -> str:
    """Return a titled Markdown table; the first row is its head."""
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([f"**{title}**\n", head, "|" + " --- |" * len(rows[0]), *rest])


def cell_table(title: str, found: dict[int, list[dict]], name: str) -> str:
    """Return one line for each kind of cell, one column for each width of codes: the figure with
    signed activations / with unsigned ones."""
    kinds = dict.fromkeys(row["cell"] for rows in found.values() for row in rows)
    lines = [["cell", *(f"{bits} bits" for bits in found)]]
    for kind in kinds:
        values = [
            [f"{row[name]:,}" for row in rows if row["cell"] == kind] for rows in found.values()
        ]
        lines.append([f"`{kind}`", *(" / ".join(pair) or "-" for pair in values)])
    return markdown(title, lines)


def array_table(title: str, arrays: dict[str, ArrayArea], name: str) -> str:
    """Return one line for each part of an array, one column for each kind of cell."""
    counts = next(iter(arrays.values())).counts
    lines = [["part", "number", *(f"`{mac}`" for mac in arrays)]]
    for part in PARTS:
        values = (f"{getattr(array.parts[part], name):,}" for array in arrays.values())
        lines.append([part, f"{counts[part]:,}", *values])
    totals = (f"{getattr(array.total, name):,}" for array in arrays.values())
    return markdown(title, [*lines, ["all", "", *totals]])


def main(
    bits: Annotated[str, typer.Option(help="Bits of codes.")] = "2,3,4,8",
    targets: Annotated[str, typer.Option(help="Synthesis targets.")] = "xilinx,ecp5,asic",
    array: Annotated[str, typer.Option(help="Array to add up; empty: cells alone.")] = "16x16",
    fmax: Annotated[str, typer.Option(help="Arrays to place and route.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="Without suffix.")] = Path("area"),
) -> None:
    """Measure, print and save."""
    check_output(output.with_suffix(".json"))
    base = parse_array(array or "16x16")
    data, tables = [], []
    for target in targets.split(","):
        name = figure(target)
        for sum_bits in (EQUAL_SUM_BITS, 0):
            found = {
                width: compare_cells(replace(base, code_bits=width), target, sum_bits=sum_bits)
                for width in map(int, bits.split(","))
            }
            title = f"{target}, {name} of a cell, sums of {sum_bits or 'their own'} bits"
            tables.append(cell_table(title, found, name))
            data += [
                {"target": target, "bits": w} | row for w, rows in found.items() for row in rows
            ]
        if array:
            whole = {
                mac: array_area(cell_config(mac, CODE_BITS, False, base), target) for mac in CELLS
            }
            tables.append(array_table(f"{target}, {name} of an array of {base}", whole, name))
            data += [area.as_dict() for area in whole.values()]
    if fmax:
        clocks = {
            size: [
                array_fmax(cell_config(mac, CODE_BITS, False, parse_array(size))) for mac in CELLS
            ]
            for size in fmax.split(",")
        }
        head = ["array", *(f"`{mac}`" for mac in CELLS)]
        lines = [[size, *(f"{value:.0f}" for value in row)] for size, row in clocks.items()]
        tables.append(markdown("ECP5, MHz", [head, *lines]))
        data += [
            {"array": size, "mac": mac, "MHz": value}
            for size, row in clocks.items()
            for mac, value in zip(CELLS, row, strict=True)
        ]
    output.with_suffix(".json").write_text(json.dumps(data, indent=1))
    text = "\n\n".join(tables) + "\n"
    output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
