"""``nupes sweep``: its table, its JSON, and what it refuses."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

import nupes
from nupes.arch.cells import CELLS
from nupes.cli import main
from tests.small import small_network


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands work in a directory of their own that holds a network."""
    monkeypatch.chdir(tmp_path)
    small_network().save("net.safetensors")


def test_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "net.safetensors", "--rows", "2,4", "--cols", "4,4", "--acc-depth", "8,16"]
    words += ["--jobs", "1", "--latency", "9"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(point["rows"], point["acc_depth"]) for point in report["points"]] == [
        (2, 8), (2, 16), (4, 8), (4, 16)
    ]  # fmt: skip
    for point in report["points"]:
        sizes = {name: point[name] for name in ("rows", "cols", "acc_depth", "act_depth")}
        program = nupes.compile(small_network(), nupes.ArrayConfig(**sizes), 9)
        assert (point["cycles"], point["utilization"]) == (program.cycles, program.utilization)
    front = [point for point in report["points"] if point["pareto"]]
    assert main(words) == 0
    _, *lines, verdict = capsys.readouterr().out.splitlines()
    assert sorted(int(line.split()[1].replace(",", "")) for line in lines) == sorted(
        point["cycles"] for point in front
    )
    assert verdict == f"{len(front)} of 4 arrays are beaten by no other"
    assert main([*words, "--every"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 4 + 1


def test_luts_take_the_place_of_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def luts_of(arrays: Iterable[nupes.ArrayConfig], target: str, progress: object) -> list[int]:
        assert target == "ecp5"
        return [100 - array.rows for array in arrays]

    monkeypatch.setattr("nupes.synthesis.areas.luts_of", luts_of)
    monkeypatch.setattr("nupes.synthesis.tools.require", lambda package: package)
    words = ["sweep", "net.safetensors", "--rows", "2,4", "--cols", "4", "--acc-depth", "8,16"]
    words += ["--jobs", "1", "--luts", "ecp5", "--every"]
    assert main([*words, "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [point["luts"] for point in points] == [98, 98, 96, 96]
    costs = [(point["cycles"], point["luts"], point["memory_bits"]) for point in points]
    for point, own in zip(points, costs, strict=True):
        rivals = (all(a <= b for a, b in zip(cost, own, strict=True)) for cost in costs)
        assert point["pareto"] == (sum(rivals) == 1)
    assert main(words) == 0
    head, *rows, _ = capsys.readouterr().out.splitlines()
    assert head.split()[4] == "LUTs"
    assert sorted(row.split()[4] for row in rows) == ["96", "96", "98", "98"]


def test_cells_of_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "net.safetensors", "--rows", "4", "--cols", "4", "--acc-depth", "8"]
    assert main([*words, "--jobs", "1", "--mac", "pair", "--json"]) == 0
    (point,) = json.loads(capsys.readouterr().out)["points"]
    sizes = {name: point[name] for name in ("rows", "cols", "acc_depth", "act_depth")}
    array = nupes.ArrayConfig(mac="pair", **sizes)
    assert point["cycles"] == nupes.compile(small_network(), array).cycles


def test_arrays_that_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "net.safetensors", "--rows", "4", "--cols", "4", "--jobs", "1"]
    for extra, message in (
        (["--acc-depth", "3"], "ArrayConfig.acc_depth must be 4 to 4096, not 3"),
        (["--rows", "4,x"], "rows must be integers, such as \"8,16,32\", not '4,x'"),
        (["--luts", "asic"], "luts must be xilinx, xilinx-dsp, ecp5 or ecp5-dsp, not 'asic'"),
        (["--luts", "virtex"], "target must be one of xilinx, xilinx-dsp, ecp5, ecp5-dsp, asic"),
        (
            ["--mac", "cube"],
            f"ArrayConfig.mac must be one of {', '.join(CELLS)}",
        ),
        (["--latency", "0"], "latency must be an integer from 1 to 2**24 - 1 cycles, not 0"),
    ):
        assert main([*words, *extra]) == 2
        assert message in capsys.readouterr().err
