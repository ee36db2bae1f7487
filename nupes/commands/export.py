"""``nupes export``: an integer network as files for other tools."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from nupes.commands.options import Array, BusBits, Json, Network
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import load_arrays, parse_array
from nupes.model.artifact.reader import load
from nupes.model.errors import InputError
from nupes.model.files import check_output, write_atomically
from nupes.model.network import IntegerNetwork

__all__ = ["run"]

VECTORS = 2
"""Test vectors of a driver."""

Outputs = dict[str, Any]
"""JSON data of the files written, by format."""


def need_onnx(option: str) -> None:
    """Refuse an option whose package is missing."""
    if find_spec("onnx") is None:
        raise InputError(
            f"{option} needs the package onnx, which is not installed; "
            'run: pip install "nupes[onnx]"'
        )


def build_models(
    network: IntegerNetwork, onnx: Path | None, qonnx: Path | None, input: str
) -> tuple[dict[Path, bytes], dict[str, Outputs]]:
    """Return the contents of the ONNX files, and what to say of them; nothing is written yet."""
    contents: dict[Path, bytes] = {}
    outputs: dict[str, Outputs] = {}
    if onnx is not None:
        from nupes.export.onnx import OPSET, build_onnx

        model = build_onnx(network, input)  # type: ignore[arg-type]  # refused there if it is none
        contents[onnx] = model.SerializeToString(deterministic=True)
        outputs["onnx"] = {"path": str(onnx), "opset": OPSET, "input": input}
    if qonnx is not None:
        from nupes.export.qonnx import OPSET, build_qonnx

        contents[qonnx] = build_qonnx(network).SerializeToString(deterministic=True)
        outputs["qonnx"] = {"path": str(qonnx), "opset": OPSET}
    for data, output in zip(contents.values(), outputs.values(), strict=True):
        output["bytes"] = len(data)
    return contents, outputs


def write_firmware(network: IntegerNetwork, folder: Path) -> Outputs:
    """Write the C firmware."""
    from nupes.export.firmware import export_firmware, memory_map

    paths = export_firmware(network, folder)
    places = memory_map(network)
    return {
        "path": str(folder),
        "files": [path.name for path in paths],
        "weight_bytes": len(places.image),
        "activation_bytes": places.activations,
    }


def write_driver(
    network: IntegerNetwork, folder: Path, array: str, bus_bits: int | None, data: str | None
) -> Outputs:
    """Write the driver of a program, with the first images of ``data`` as test vectors."""
    from nupes.compiler.program import compile
    from nupes.export.driver import build_driver, export_driver

    config = parse_array(array)
    codes = None
    if data is not None:
        codes = network.encode_all(*(part[:VECTORS] for part in load_arrays(data)))
    program = compile(network, config)
    with Reporter() as report:
        report(f"generating the Verilog of the {config} array")
        paths = export_driver(build_driver(program, codes, bus_bits), folder)
    return {
        "path": str(folder),
        "files": [path.name for path in paths],
        "array": str(config),
        "program_bytes": (folder / "program.bin").stat().st_size,
        "cycles": program.cycles,
    }


def describe(kind: str, data: Outputs) -> str:
    """Return one line about what was written."""
    if kind == "firmware":
        return (
            f"firmware: {data['path']}/ ({data['weight_bytes']:,} bytes of packed weights, "
            f"{data['activation_bytes']:,} bytes of activation memory)"
        )
    if kind == "driver":
        return (
            f"driver: {data['path']}/ ({data['array']} array, {data['program_bytes']:,} bytes of "
            f"program; `make` there runs its test)"
        )
    return f"{kind}: {data['path']} (opset {data['opset']}, {data['bytes']:,} bytes)"


def run(
    network: Network,
    onnx: Annotated[
        Path | None,
        typer.Option("--onnx", metavar="FILE", help="Standard ONNX of integer operators."),
    ] = None,
    qonnx: Annotated[
        Path | None,
        typer.Option("--qonnx", metavar="FILE", help="QONNX for FINN; uniform codebooks only."),
    ] = None,
    firmware: Annotated[
        Path | None,
        typer.Option(
            "--firmware", metavar="DIR", help="C99 program, header, packed weights as Intel HEX."
        ),
    ] = None,
    driver: Annotated[
        Path | None,
        typer.Option(
            "--driver",
            metavar="DIR",
            help="Verilog on AXI4, drivers in C and Python, program, test vectors and a test.",
        ),
    ] = None,
    array: Array = "16x16",
    bus_bits: BusBits = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images whose first ones are the test vectors of --driver, random ones if not "
            "given.",
        ),
    ] = None,
    input: Annotated[
        str,
        typer.Option(
            "--input", metavar="KIND", help="What --onnx takes: float32, float64 (images) or codes."
        ),
    ] = "float32",
    json: Json = False,
) -> None:
    """Write a network for other tools: ONNX, QONNX, firmware, a driver.

    Each of them computes the same integers. What each one is, and its limits: docs/interchange.md
    and, for --driver, docs/bus.md.

    [bold]Examples[/]

    nupes export net.safetensors --onnx net.onnx

    nupes export net.safetensors --firmware firmware/ --qonnx net.qonnx.onnx

    nupes export net.safetensors --driver driver/ --array 8x8
    """
    if onnx is None and qonnx is None and firmware is None and driver is None:
        raise InputError("export must have at least one of --onnx, --qonnx, --firmware, --driver")
    if onnx is not None and onnx == qonnx:
        raise InputError(f"--onnx and --qonnx must be two files, not both {str(onnx)!r}")
    for option, path in (("--onnx", onnx), ("--qonnx", qonnx)):
        if path is not None:
            need_onnx(option)
            check_output(path)
    loaded = load(network)
    contents, written = build_models(loaded, onnx, qonnx, input)
    if firmware is not None:
        written["firmware"] = write_firmware(loaded, firmware)
    if driver is not None:
        written["driver"] = write_driver(loaded, driver, array, bus_bits, data)
    for path, content in contents.items():
        write_atomically(path, content)
    if json:
        print_json(written)
        return
    for kind, output in written.items():
        print_text(describe(kind, output))
