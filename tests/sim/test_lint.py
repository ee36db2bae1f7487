"""Verilator's full lint: nothing to say beyond the named waivers, for any shape of array."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nupes import rtl
from nupes.arch.config import ArrayConfig
from nupes.model.errors import SimulationError
from nupes.sim.build import (
    TESTBENCH,
    TOP,
    VERILATOR_FLAGS,
    WAIVERS,
    build,
    tool_environment,
    verilator_program,
)
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


def lint(config: ArrayConfig, verilog: str, directory: Path) -> str:
    """Return what Verilator says about the bench with ``verilog``, with the flags of a build."""
    source = directory / "accelerator.v"
    source.write_text(verilog)
    sizes = [f"-GPORT_BITS={config.port_bits}", f"-GCOLS={config.cols}"]
    command = [verilator_program(), "--lint-only", *VERILATOR_FLAGS, *sizes]
    result = subprocess.run(
        [*command, "--top-module", TOP, str(source), str(TESTBENCH)],
        env=tool_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode == 0) == (result.stderr == "")
    return result.stderr


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mac}-{config}")
def test_the_accelerator_is_clean(config: ArrayConfig, tmp_path: Path) -> None:
    assert lint(config, rtl.verilog(config), tmp_path) == ""


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
        build(SMALL, faulty, progress=print)


def test_every_waiver_has_a_reason() -> None:
    lines = WAIVERS.read_text().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("lint_off")]
    assert rules
    for number in rules:
        assert re.match(r"// \w.*\.$", lines[number - 1])
