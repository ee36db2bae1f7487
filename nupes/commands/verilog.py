"""``nupes verilog``: the RTL of an array."""

from pathlib import Path
from typing import Annotated

import typer

from nupes.arch.bus import check_bus
from nupes.commands.options import Array, Bus, BusBits, Json
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import parse_array
from nupes.model.files import check_output, write_atomically

__all__ = ["run"]


def run(
    array: Array = "16x16",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the Verilog.")
    ] = Path("nupes_accelerator.v"),
    bus: Bus = None,
    bus_bits: BusBits = None,
    json: Json = False,
) -> None:
    """Write the Verilog of an array.

    The top module is nupes_accelerator; its ports are in docs/hardware.md. With --bus axi4 it is
    nupes_axi, with AXI4 for program and results, and AXI4-Lite registers: docs/bus.md.

    [bold]Examples[/]

    nupes verilog --array 16x16 -o nupes_accelerator.v

    nupes verilog --array 32x32,code_bits=2 -o wide.v

    nupes verilog --array 8x8 --bus axi4 -o nupes_axi.v
    """
    config = parse_array(array)
    data_bits = check_bus(bus, bus_bits, config)
    check_output(output)
    with Reporter() as report:
        report(f"generating the Verilog of the {config} array")
        from nupes.rtl.system import verilog

        text = verilog(config, bus, bus_bits)
        write_atomically(output, text.encode())
    if json:
        data = {"path": str(output), "array": str(config), "lines": text.count("\n")}
        print_json(data if bus is None else data | {"bus": bus, "bus_bits": data_bits})
        return
    on = "" if bus is None else f" on an {bus} bus of {data_bits} bits"
    print_text(f"{output}: {config} array{on}, {text.count(chr(10)):,} lines of Verilog")
