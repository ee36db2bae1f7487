"""Verilator's full lint: nothing to say beyond the named waivers, for any shape of array."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nupes import rtl
from nupes.arch.config import ArrayConfig
from nupes.model.errors import SimulationError
from nupes.rtl import system
from nupes.sim.builds import build_simulator
from nupes.sim.launchers import (
    BUS_TESTBENCH,
    BUS_WAIVERS,
    TESTBENCH,
    TOP,
    VERILATOR_FLAGS,
    WAIVERS,
    find_launcher,
)
from nupes.sim.tools import tool_environment, verilator_program
from tests.sim.stub import SMALL, stub

SMALLEST: dict[str, Any] = {
    "acc_depth": 4,
    "act_depth": 4,
    "param_slots": 2,
    "burst": 1,
    "fetch_depth": 2,
}
MAGNITUDES: dict[str, Any] = {
    "weight_magnitudes": (3, 10, 23, 41),
    "activation_magnitudes": (1, 5, 14, 41, 255),
}
ARRAY_OF_100 = ArrayConfig(2, 20, code_bits=5, products=True)
"""Words of 100 bits, results of 320."""

CONFIGS = [
    # The smallest of everything: no signal may have less than one bit.
    ArrayConfig(3, 3, code_bits=5, **SMALLEST),
    ArrayConfig(2, 2, code_bits=2, products=True, **SMALLEST),
    pytest.param(ArrayConfig(8, 4, code_bits=3), marks=pytest.mark.slow),
    pytest.param(ArrayConfig(24, 24, code_bits=8), marks=pytest.mark.slow),
    *(
        pytest.param(ArrayConfig(2, 2, mac=mac, **SMALLEST), marks=pytest.mark.slow)
        for mac in ("uniform", "square", "pair")
    ),
    pytest.param(
        ArrayConfig(4, 2, mac="uniform", products=True, **SMALLEST), marks=pytest.mark.slow
    ),
    pytest.param(
        ArrayConfig(2, 2, mac="product", **SMALLEST, **MAGNITUDES), marks=pytest.mark.slow
    ),
]


def lint(config: ArrayConfig, verilog: str, directory: Path, data_bits: int | None = None) -> str:
    """Return what Verilator says about the bench with ``verilog``, with the flags of a build; the
    one around a bus of ``data_bits``."""
    source = directory / "accelerator.v"
    source.write_text(verilog)
    width = f"-GPORT_BITS={config.port_bits}" if data_bits is None else f"-GDATA_BITS={data_bits}"
    bench, waivers = (TESTBENCH, []) if data_bits is None else (BUS_TESTBENCH, [str(BUS_WAIVERS)])
    flags = [*VERILATOR_FLAGS, *waivers, width, f"-GCOLS={config.cols}"]
    result = subprocess.run(
        [verilator_program(), "--lint-only", *flags, "--top-module", TOP, str(source), str(bench)],
        env=tool_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode == 0) == (result.stderr == "")
    return result.stderr


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mac}-{config}")
def test_the_accelerator_is_clean(config: ArrayConfig, tmp_path: Path) -> None:
    assert lint(config, rtl.verilog(config), tmp_path) == ""


@pytest.mark.slow
@pytest.mark.parametrize("data_bits", [64, 128])
@pytest.mark.parametrize(
    "config", [ArrayConfig(3, 3, code_bits=5, **SMALLEST), ARRAY_OF_100], ids=str
)
def test_the_accelerator_on_a_bus_is_clean(
    config: ArrayConfig, data_bits: int, tmp_path: Path
) -> None:
    text = system.verilog(config, "axi4", data_bits)
    assert lint(config, text, tmp_path, data_bits) == ""


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("wire [3:0] narrow = 8'd77;", "WIDTHTRUNC"),
        ("wire lost; wire seen = lost;", "UNDRIVEN"),
        ("reg held; always @* if (rst) held = start;", "LATCH"),
    ],
)
def test_a_fault_is_no_waiver(fault: str, rule: str, tmp_path: Path) -> None:
    faulty = stub(SMALL).replace("endmodule", f"{fault}\nendmodule")
    assert f"%Warning-{rule}" in lint(SMALL, faulty, tmp_path)


def test_a_warning_fails_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    faulty = stub(SMALL).replace("endmodule", "wire [3:0] narrow = 8'd77;\nendmodule")
    with pytest.raises(SimulationError, match=r"(?s)verilator failed to build .*WIDTHTRUNC"):
        build_simulator(find_launcher("verilator"), SMALL, faulty, progress=print)


@pytest.mark.parametrize("waivers", [WAIVERS, BUS_WAIVERS], ids=lambda path: path.name)
def test_every_waiver_has_a_reason(waivers: Path) -> None:
    lines = waivers.read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("lint_off")]
    assert rules
    for number in rules:
        assert re.match(r"// \w.*\.$", lines[number - 1])
