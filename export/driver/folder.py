"""The files of a driver, and the folder that holds them."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from nupes.arch.bus import check_bus, memory_image
from nupes.compiler.program import Program
from nupes.export.driver.network import network_archive, network_header, network_source
from nupes.export.driver.registers import c_header, python_module, svd
from nupes.export.driver.tables import driver_tables
from nupes.model.errors import ArtifactError, InputError
from nupes.model.files import write_atomically
from nupes.model.network import IntegerNetwork
from nupes.rtl.system import verilog

__all__ = ["build_driver", "export_driver", "vectors"]

RUNTIME = (
    "nupes_driver.h",
    "nupes_driver.c",
    "nupes_driver.py",
    "smoke.cpp",
    "Makefile",
    "README.md",
    "nupes.core",
)
"""Files that are the same for every network."""


def vectors(network: IntegerNetwork, count: int = 2) -> tuple[np.ndarray, ...]:
    """Return random codes (b, h, w, c) uint8 of every input, the same every time; raise
    ``InputError`` where not every code makes sense."""
    if network.input_masks:
        raise InputError(
            "driver of a network whose inputs mask scores must have --data, images of it, not "
            "random test vectors"
        )
    rng = np.random.default_rng(0)
    return tuple(
        rng.integers(0, len(item.tensor.codebook), (count, *item.tensor.shape)).astype(np.uint8)
        for item in network.inputs
    )


def build_driver(
    program: Program, codes: Sequence[np.ndarray] | None = None, bus_bits: int | None = None
) -> dict[str, bytes]:
    """Return the files of a driver for a program, by name.

    ``codes`` (b, h, w, c) uint8 of every input are the test vectors, random ones by default.
    ``bus_bits``: bits of a beat, 64 or 128. ``docs/bus.md`` says what the files are.

    Raise ``CapacityError`` for an input that the driver's tables cannot name.
    """
    array, network = program.array, program.network
    data_bits = check_bus("axi4", bus_bits, array) or 0
    tables = driver_tables(program)
    given = vectors(network) if codes is None else tuple(codes)
    flat = np.concatenate([part.reshape(len(part), -1) for part in given], axis=1)
    outputs = [y.reshape(len(y), -1) for y in network.run_all(*given)]
    image = memory_image(program.image, array.port_bits, data_bits)
    folder = files("nupes.export.driver") / "runtime"
    return {
        "nupes_axi.v": verilog(array, "axi4", data_bits).encode(),
        "nupes_registers.h": c_header().encode(),
        "nupes_registers.py": python_module().encode(),
        "nupes.svd": svd(array, data_bits),
        "network.h": network_header(program, tables, len(image), data_bits).encode(),
        "network.c": network_source(tables).encode(),
        "network.npz": network_archive(program, tables),
        "program.bin": image.tobytes(),
        "codes.bin": flat.tobytes(),
        "expected.bin": np.concatenate(outputs, axis=1).astype("<i2").tobytes(),
        **{name: folder.joinpath(name).read_bytes() for name in RUNTIME},
    }


def export_driver(contents: dict[str, bytes], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the files of ``build_driver`` into a folder, which is made if it is missing; return the
    paths.

    Each file is complete or not there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"output folder {folder} must be writable: {error.strerror}") from error
    return [write_atomically(folder / name, data) for name, data in contents.items()]
