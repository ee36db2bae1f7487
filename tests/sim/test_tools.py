"""Tools that are missing."""

from pathlib import Path

import pytest

from nupes.model.errors import InputError, SimulationError
from nupes.sim.tools import check_tools


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        ("verilator", r"needs g\+\+, .* run: apt-get install g\+\+ make perl"),
        ("icarus", "needs iverilog, .* run: apt-get install iverilog"),
    ],
)
def test_a_missing_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: str, message: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulationError, match=message):
        check_tools(simulator)


def test_an_unknown_simulator() -> None:
    with pytest.raises(InputError, match="simulator must be one of verilator, icarus, not 'vcs'"):
        check_tools("vcs")
