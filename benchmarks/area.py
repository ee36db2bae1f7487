"""Area of the cells and of whole arrays, as Markdown and as JSON.

    python -m benchmarks.area [--bits 2,3,4,8] [--targets xilinx,ecp5,asic] [--array 16x16]
        [--fmax 4x4,8x8] -o out/area

Every number is one synthesis, kept by content; the first run takes hours on two cores, and can be
stopped and repeated.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nupes.area import array_area, array_fmax, cell_config, compare_cells
from nupes.inputs import check_output, parse_array
from nupes.model.cells import CELLS
from nupes.model.errors import InputError

EQUAL_SUM_BITS = 24
"""Partial sums of the comparison at equal widths."""


def markdown(rows: list[dict], columns: list[str]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(column.replace("_", " ") for column in columns) + " |"]
    lines.append("|" + " --- |" * len(columns))
    for row in rows:
        cells = (f"{row[c]:,.0f}" if isinstance(row[c], int | float) else row[c] for c in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def array_rows(text: str, bits: list[int], targets: list[str]) -> list[dict]:
    """Return one row for each part of each array, its total among them."""
    rows = []
    for width in bits:
        for mac in CELLS:
            try:
                config = cell_config(mac, width, False, parse_array(text))
            except InputError:
                continue
            for target in targets:
                found = array_area(config, target)
                parts = [(name, found.counts[name], area) for name, area in found.parts.items()]
                for name, number, area in [*parts, ("total", 1, found.total)]:
                    where = {"target": target, "bits": width, "mac": mac, "part": name}
                    rows.append(where | {"number": number} | area.as_dict())
    return rows


def main(
    bits: Annotated[str, typer.Option(help="Bits of codes.")] = "2,3,4,8",
    targets: Annotated[str, typer.Option(help="Targets of nupes.synthesis.")] = "xilinx,ecp5,asic",
    array: Annotated[str, typer.Option(help="Array to add up; empty: cells alone.")] = "16x16",
    fmax: Annotated[str, typer.Option(help="Arrays to place and route.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="Without suffix.")] = Path("area"),
) -> None:
    """Measure, print and save."""
    check_output(output.with_suffix(".json"))
    widths, chosen = [int(text) for text in bits.split(",")], targets.split(",")
    base = parse_array(array or "16x16")
    cells = []
    for target in chosen:
        for width in widths:
            for sum_bits in (EQUAL_SUM_BITS, 0):
                found = compare_cells(replace(base, code_bits=width), target, sum_bits=sum_bits)
                cells += [{"target": target, "bits": width} | row for row in found]
    arrays = array_rows(array, widths, chosen) if array else []
    clocks = []
    for text in filter(None, fmax.split(",")):
        for mac in CELLS:
            config = cell_config(mac, 4, False, parse_array(text))
            clocks.append({"array": text, "mac": mac, "MHz": array_fmax(config)})
    output.with_suffix(".json").write_text(
        json.dumps({"cells": cells, "arrays": arrays, "fmax": clocks}, indent=1)
    )
    sizes = ["luts", "lutram", "flops", "carry", "dsp", "block_ram", "gates", "transistors"]
    head = ["target", "bits", "cell", "activations", "sum_bits"]
    tables = [markdown(cells, [*head, *sizes])]
    if arrays:
        tables.append(markdown(arrays, ["target", "bits", "mac", "part", "number", *sizes]))
    if clocks:
        tables.append(markdown(clocks, ["array", "mac", "MHz"]))
    text = "\n\n".join(tables) + "\n"
    output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
