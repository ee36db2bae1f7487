"""``nupes export``: an integer network as files for other tools."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from nupes.commands.options import Json, Network
from nupes.console import print_json, print_text
from nupes.inputs import check_output
from nupes.model.artifact import load
from nupes.model.errors import InputError
from nupes.model.network import IntegerNetwork

__all__ = ["export"]

Outputs = dict[str, Any]
"""JSON data of the files written, by format."""


def need_onnx(option: str) -> None:
    """Refuse an option whose package is missing."""
    if find_spec("onnx") is None:
        raise InputError(
            f"{option} needs the package onnx, which is not installed; "
            'run: pip install "nupes[onnx]"'
        )


def write_onnx(network: IntegerNetwork, path: Path, input: str) -> Outputs:
    """Write a standard ONNX model."""
    from nupes.export.onnx import OPSET, export_onnx

    export_onnx(network, path, input)  # type: ignore[arg-type]  # refused there if it is none
    return {"path": str(path), "opset": OPSET, "input": input, "bytes": path.stat().st_size}


def write_qonnx(network: IntegerNetwork, path: Path) -> Outputs:
    """Write a QONNX model."""
    from nupes.export.qonnx import OPSET, export_qonnx

    export_qonnx(network, path)
    return {"path": str(path), "opset": OPSET, "bytes": path.stat().st_size}


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


def describe(kind: str, data: Outputs) -> str:
    """Return one line about what was written."""
    if kind == "firmware":
        return (
            f"firmware: {data['path']}/ ({data['weight_bytes']:,} bytes of packed weights, "
            f"{data['activation_bytes']:,} bytes of activation memory)"
        )
    return f"{kind}: {data['path']} (opset {data['opset']}, {data['bytes']:,} bytes)"


def export(
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
    input: Annotated[
        str,
        typer.Option(
            "--input", metavar="KIND", help="What --onnx takes: float32, float64 (images) or codes."
        ),
    ] = "float32",
    json: Json = False,
) -> None:
    """Write a network for other tools; each export computes the same integers.

    What each one is, and its limits: docs/interchange.md.

    [bold]Examples[/]

    nupes export net.safetensors --onnx net.onnx

    nupes export net.safetensors --firmware firmware/ --qonnx net.qonnx.onnx
    """
    if onnx is None and qonnx is None and firmware is None:
        raise InputError("export must have at least one of --onnx, --qonnx, --firmware")
    for option, path in (("--onnx", onnx), ("--qonnx", qonnx)):
        if path is not None:
            need_onnx(option)
            check_output(path)
    loaded = load(network)
    written: dict[str, Outputs] = {}
    if onnx is not None:
        written["onnx"] = write_onnx(loaded, onnx, input)
    if qonnx is not None:
        written["qonnx"] = write_qonnx(loaded, qonnx)
    if firmware is not None:
        written["firmware"] = write_firmware(loaded, firmware)
    if json:
        print_json(written)
        return
    for kind, data in written.items():
        print_text(describe(kind, data))
