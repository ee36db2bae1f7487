"""``nupes sweep``: its table, its JSON, and what it refuses."""

import json
from pathlib import Path

import pytest

import nupes
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


def test_arrays_that_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "net.safetensors", "--rows", "4", "--cols", "4", "--jobs", "1"]
    for extra, message in (
        (["--acc-depth", "3"], "ArrayConfig.acc_depth must be 4 to 4096, not 3"),
        (["--rows", "4,x"], "rows must be integers, such as \"8,16,32\", not '4,x'"),
        (["--latency", "0"], "latency must be an integer from 1 to 2**24 - 1 cycles, not 0"),
    ):
        assert main([*words, *extra]) == 2
        assert message in capsys.readouterr().err
