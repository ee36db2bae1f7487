"""The files of a firmware, and the folder that holds them."""

import os
from importlib.resources import files
from pathlib import Path

from nupes.export.firmware.header import header_text
from nupes.export.firmware.image import intel_hex
from nupes.export.firmware.memory import memory_map
from nupes.export.firmware.tables import source_text
from nupes.export.support import refuse_state
from nupes.model.errors import ArtifactError
from nupes.model.files import write_atomically
from nupes.model.network import IntegerNetwork

__all__ = ["build_firmware", "export_firmware"]

RUNTIME = ("nupes.h", "nupes.c", "main.c")
"""Files that are the same for every network."""


def build_firmware(network: IntegerNetwork) -> dict[str, bytes]:
    """Return the files of a network's firmware by name.

    ``weights.hex`` holds the packed codes and nothing else: ``ceil(codes * bits / 8)`` bytes for
    each layer. ``network.h`` says what lies where, ``network.c`` has the tables; ``nupes.h``,
    ``nupes.c`` and ``main.c`` are the runtime and a program for the host.

    Raise ``UnsupportedError`` for state and for a kind of operator without an export.
    """
    refuse_state(network, "firmware")
    places = memory_map(network)
    folder = files("nupes.export.firmware") / "runtime"
    return {
        "weights.hex": intel_hex(places.image),
        "network.h": header_text(network, places).encode(),
        "network.c": source_text(network, places).encode(),
        **{name: folder.joinpath(name).read_bytes() for name in RUNTIME},
    }


def export_firmware(network: IntegerNetwork, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a network's firmware into a folder, which is made if it is missing; return the paths.

    Each file is complete or not there.
    """
    contents, folder = build_firmware(network), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"output folder {folder} must be writable: {error.strerror}") from error
    return [write_atomically(folder / name, data) for name, data in contents.items()]
