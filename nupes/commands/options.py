"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Array",
    "Batch",
    "Bus",
    "BusBits",
    "Data",
    "Json",
    "Model",
    "Network",
    "SimulatorName",
    "Trace",
]

MODEL_HELP = (
    "FILE.py:CALLABLE that returns an nn.Module, or a FILE.pt2 from torch.export.save. "
    "Both can run code: only open models that you trust."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]

Network = Annotated[
    Path,
    typer.Argument(metavar="NET", help="Integer network: a .safetensors from `nupes quantize`."),
]

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="FILE.npz or FILE.npz:KEY, images (b, c, h, w); KEY is x by default, and KEY,KEY for "
        "several inputs.",
    ),
]

Array = Annotated[
    str,
    typer.Option(
        "--array",
        metavar="RxC",
        help="Rows x columns of processing elements; other fields of ArrayConfig may follow: "
        "16x16,act_depth=16384.",
    ),
]

Batch = Annotated[
    int,
    typer.Option(
        "--batch",
        metavar="N",
        help="Images of a run: layers of small maps go through their weights once for all.",
    ),
]

SimulatorName = Annotated[
    str, typer.Option("--simulator", metavar="NAME", help="verilator or icarus.")
]

Bus = Annotated[
    str | None,
    typer.Option("--bus", metavar="NAME", help="axi4: the accelerator on a bus (docs/bus.md)."),
]

BusBits = Annotated[
    int | None,
    typer.Option(
        "--bus-bits",
        metavar="N",
        help="Bits of a beat, 64 or 128; 64 by default if a port word fits them, else 128.",
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

Trace = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="Write what each engine does in every cycle: a .json for ui.perfetto.dev.",
    ),
]
