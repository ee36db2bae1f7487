"""What other tools compute from an exported network, compared with the integer network.

    python -m benchmarks.interchange --data DIR [--network resnet8] [--codebook uniform]

Every result of every image must be equal to the last bit; the exit status is 1 if one is not. ONNX
runs in ONNX Runtime, QONNX (uniform codebooks alone) in the executor of the qonnx package, the
firmware is compiled with the system's C compiler. The sizes are those of the files on disk.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

import nupes
from benchmarks.pretrained import load_pretrained
from nupes.export.firmware import export_firmware, memory_map
from nupes.export.onnx import export_onnx
from nupes.export.qonnx import export_qonnx
from nupes.model.operators import Conv

CALIBRATION = 256
BATCH = 50

Runner = Callable[[np.ndarray], np.ndarray]


def onnx_runner(network: nupes.IntegerNetwork, folder: Path) -> tuple[Runner, int]:
    """Return what runs the ONNX model on images, and the bytes of its file."""
    path = export_onnx(network, folder / "net.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
        results = (session.run(["output"], {"images": part})[0] for part in parts)
        return np.concatenate([np.asarray(result) for result in results])

    return run, path.stat().st_size


def qonnx_runner(network: nupes.IntegerNetwork, folder: Path) -> tuple[Runner, int]:
    """Return what runs the QONNX model on images, and the bytes of its file."""
    path = export_qonnx(network, folder / "net.qonnx.onnx")
    model = ModelWrapper(str(path))

    def run(images: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [execute_onnx(model, {"images": image[np.newaxis]})["output"] for image in images]
        )

    return run, path.stat().st_size


def firmware_runner(network: nupes.IntegerNetwork, folder: Path) -> tuple[Runner, int]:
    """Return what runs the compiled firmware on images, and the bytes of its weight image."""
    export_firmware(network, folder)
    command = ["cc", "-std=c99", "-O2", "main.c", "nupes.c", "network.c", "-o", "network"]
    subprocess.run(command, cwd=folder, check=True)

    def run(images: np.ndarray) -> np.ndarray:
        codes = network.encode(images).tobytes()
        result = subprocess.run(
            ["./network", "weights.hex"], cwd=folder, input=codes, capture_output=True, check=True
        )
        y = np.array([line.split() for line in result.stdout.splitlines()], np.int64)
        output = network.the_output
        return y.reshape(-1, *output.shape) * network.tensors[output.tensor].scale

    return run, len(memory_map(network).image)


def packed_bytes(network: nupes.IntegerNetwork, path: Path) -> tuple[int, int]:
    """Return the bytes that the weights' bits promise, and those of the codes in the artifact."""
    network.save(path)
    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if name.endswith("op.codes")]
        stored = sum(file.get_tensor(name).nbytes for name in names)
    convs = [layer.op for layer in network.layers if isinstance(layer.op, Conv)]
    return sum(-(-op.codes.size * op.codebook.bits // 8) for op in convs), stored


def main(
    data: Annotated[Path, typer.Option(help="Directory with the weights and data.")],
    network: Annotated[str, typer.Option(help="resnet8, resnet20 or dscnn.")] = "resnet8",
    codebook: Annotated[
        str, typer.Option(help="power or uniform; the method's own if none is named.")
    ] = "",
    scheme: Annotated[str, typer.Option(help="WxAy.")] = "W4A4",
    images: Annotated[int, typer.Option(help="Images for ONNX Runtime.")] = 1000,
    firmware: Annotated[int, typer.Option(help="Images for the firmware.")] = 100,
    qonnx: Annotated[int, typer.Option(help="Images for QONNX.")] = 5,
) -> None:
    """Compare every export of a network with the network itself."""
    trained = load_pretrained(network, data)
    integer = nupes.quantize(
        trained.module,
        scheme,
        trained.calibration[:CALIBRATION],
        codebook=codebook or None,  # pyright: ignore[reportArgumentType] - checked by quantize
        method="search",
    )
    formats = {"onnx": (onnx_runner, images), "firmware": (firmware_runner, firmware)}
    if codebook == "uniform":
        formats["qonnx"] = (qonnx_runner, qonnx)
    table = Table("format", "images equal", "bytes", box=None, pad_edge=False)
    exact = True
    with TemporaryDirectory() as name:
        folder = Path(name)
        promised, stored = packed_bytes(integer, folder / "net.safetensors")
        for kind, (make, count) in formats.items():
            run, size = make(integer, folder)
            inputs = trained.images[:count]
            equal = (run(inputs) == integer(inputs)).reshape(len(inputs), -1).all(axis=1)
            exact = exact and bool(equal.all())
            table.add_row(kind, f"{equal.sum()}/{len(inputs)}", f"{size:,}")
        file = (folder / "net.safetensors").stat().st_size
    floats = 4 * sum(layer.op.codes.size for layer in integer.layers if isinstance(layer.op, Conv))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{network} {scheme}, {codebook or 'its own'} codebooks")
    console.print(table)
    console.print(
        f"weights: {promised:,} bytes by their bits, {stored:,} in the artifact of {file:,}, "
        f"{floats:,} in float32"
    )
    raise typer.Exit(not (exact and stored == promised))


if __name__ == "__main__":
    typer.run(main)
