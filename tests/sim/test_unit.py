"""One file for a whole model: everything is in it, and what runs once is not optimized."""

import subprocess
import sys

from nupes.sim import unit
from nupes.sim.builds import build_simulator
from nupes.sim.launchers import find_launcher
from tests.sim.stub import SMALL, stub

OFF = '#pragma GCC optimize ("O0")'


def included(lines: list[str]) -> list[str]:
    """Return the files that lines include."""
    return [line.split('"')[1] for line in lines if line.startswith("#include")]


def test_what_runs_once_is_not_optimized() -> None:
    lines = unit.whole_model("main.cpp", ["a.cpp", "b__Slow.cpp", "c.cpp"]).splitlines()
    place, end = lines.index(OFF), lines.index("#pragma GCC pop_options")
    assert included(lines[:place]) == ["a.cpp", "c.cpp"]
    assert included(lines[place:end]) == ["b__Slow.cpp"]
    assert included(lines[end:]) == ["main.cpp"]


def test_as_the_makefile_calls_it() -> None:
    command = [sys.executable, unit.__file__, "main.cpp", "-DVL_INCLUDE_OPT=include", "a.cpp"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert included(result.stdout.splitlines()) == ["a.cpp", "main.cpp"]


def test_a_build_compiles_one_file() -> None:
    log = build_simulator(find_launcher("verilator"), SMALL, stub(SMALL)) / "build.log"
    compiled = [line.split()[-1] for line in log.read_text().splitlines() if " -c " in line]
    assert [name for name in compiled if name.startswith("Vtop")] == ["Vtop__ALL.cpp"]
