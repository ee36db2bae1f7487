"""Tools, cache and failures of a build."""

import threading
from pathlib import Path

import pytest

from nupes.model.errors import InputError, SimulationError
from nupes.sim.build import build, cache_directory
from tests.sim.conftest import needs_icarus
from tests.sim.stub import SMALL, stub


def test_a_build_is_kept() -> None:
    lines: list[str] = []
    first = build(SMALL, stub(SMALL))
    assert build(SMALL, stub(SMALL), progress=lines.append) == first
    assert not lines
    assert (first / "build.log").is_file()
    assert not list(first.parent.glob(f"{first.name}.building"))


def test_another_content_is_another_build() -> None:
    assert build(SMALL, stub(SMALL)) != build(SMALL, stub(SMALL), memory_words=1 << 19)


@needs_icarus
def test_two_builders_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path / "deep" / "cache"))
    lines: list[str] = []
    results: list[Path] = []

    def work() -> None:
        results.append(build(SMALL, stub(SMALL), "icarus", progress=lines.append))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
    assert sum(line.startswith("building") for line in lines) == 1


@needs_icarus
def test_verilog_that_does_not_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    with pytest.raises(SimulationError, match=r"icarus failed to build .*(?s:.*)syntax error"):
        build(SMALL, "module nupes_accelerator(; endmodule", "icarus", progress=print)
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock", ".log"}


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
        build(SMALL, stub(SMALL), simulator)


def test_an_unknown_simulator() -> None:
    with pytest.raises(InputError, match="simulator must be one of verilator, icarus, not 'vcs'"):
        build(SMALL, stub(SMALL), "vcs")


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path / "a b"))
    with pytest.raises(SimulationError, match="must not contain spaces"):
        cache_directory()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path / "file"))
    with pytest.raises(SimulationError, match="cannot be created"):
        cache_directory()
