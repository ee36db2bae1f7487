"""Icarus and Verilator around ``nupes_axi``, driven by the cocotb tests of ``scenarios``."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cocotb_tools.runner import Verilator

from nupes.arch.config import ArrayConfig
from nupes.sim.cache import cache_directory, is_whole, key_of, locked, seal
from nupes.sim.launchers import IcarusLauncher, Launcher, VerilatorLauncher
from nupes.sim.verilog import generate

__all__ = ["SETTINGS", "run_scenario"]

SETTINGS = "NUPES_SCENARIO"
"""Environment variable: what a scenario is told, as JSON."""

TOP = "nupes_axi"
ROOT = Path(__file__).parents[3]


class PublicVerilator(VerilatorLauncher):
    """Verilator with cocotb's own main loop, and every signal visible to it."""

    def __init__(self) -> None:
        super().__init__()
        # Visible vectors are not split, so that loops seem to be where no bit is in one.
        self.flags = (*self.flags, "-Wno-UNOPTFLAT")

    def _build_command(self) -> list[list[str]]:
        return Verilator._build_command(self)


def launcher_of(simulator: str) -> Launcher:
    """Return the launcher of a simulator."""
    return IcarusLauncher() if simulator == "icarus" else PublicVerilator()


def built(launcher: Launcher, verilog: str) -> Path:
    """Return the folder of a build of ``nupes_axi``, kept by its content."""
    content = (launcher.name, launcher.flags, launcher.versions, verilog)
    target = cache_directory() / f"axi-{key_of(content)}"
    with locked(target.with_suffix(".lock"), lambda: None):
        if not is_whole(target):
            target.mkdir(exist_ok=True)
            source = target / "accelerator.v"
            source.write_text(verilog)
            with tempfile.TemporaryDirectory() as work:
                launcher.build(
                    sources=[source],
                    hdl_toplevel=TOP,
                    build_args=launcher.flags,
                    build_dir=work,
                    log_file=target / "build.log",
                )
                product = TOP if launcher.name == "verilator" else launcher.product
                (target / product).write_bytes((Path(work) / product).read_bytes())
                (target / product).chmod(0o755)
            seal(target)
    return target


def run_scenario(
    scenario: str, config: ArrayConfig, data_bits: int, simulator: str = "icarus", **settings: Any
) -> None:
    """Run a cocotb test of ``scenarios`` on an array; raise ``AssertionError`` if it fails."""
    launcher = launcher_of(simulator)
    folder = built(launcher, generate(config, print, data_bits))
    told = {"scenario": scenario, "config": repr(config), "data_bits": data_bits, **settings}
    with tempfile.TemporaryDirectory() as work:
        log = Path(work) / "log"
        for path in folder.iterdir():
            (Path(work) / path.name).symlink_to(path)
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        try:
            launcher.test(
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                test_module="tests.rtl.bus.scenarios",
                build_dir=work,
                test_dir=work,
                results_xml=str(Path(work) / "results.xml"),
                extra_env={SETTINGS: json.dumps(told), "PYTHONPATH": os.pathsep.join(paths)},
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            raise AssertionError(f"{error}\n{log.read_text()[-6000:]}") from None
        text = (Path(work) / "results.xml").read_text()
        if "<failure" in text or "<error" in text or "<testcase" not in text:
            raise AssertionError(f"{text}\n{log.read_text()[-6000:]}")
