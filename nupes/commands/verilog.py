"""``nupes verilog``: the RTL of an array."""

from pathlib import Path
from typing import Annotated

import typer

from nupes.commands.options import Array, Json
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import parse_array
from nupes.model.files import check_output, write_atomically

__all__ = ["run"]


def run(
    array: Array = "16x16",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the Verilog.")
    ] = Path("nupes_accelerator.v"),
    json: Json = False,
) -> None:
    """Write the Verilog of an array.

    The top module is nupes_accelerator; its ports are in docs/hardware.md.

    [bold]Examples[/]

    nupes verilog --array 16x16 -o nupes_accelerator.v

    nupes verilog --array 32x32,code_bits=2 -o wide.v
    """
    config = parse_array(array)
    check_output(output)
    with Reporter() as report:
        report(f"generating the Verilog of the {config} array")
        from nupes.rtl import verilog

        text = verilog(config)
        write_atomically(output, text.encode())
    if json:
        print_json({"path": str(output), "array": str(config), "lines": text.count("\n")})
        return
    print_text(f"{output}: {config} array, {text.count(chr(10)):,} lines of Verilog")
