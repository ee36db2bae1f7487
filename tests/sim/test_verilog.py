"""The cache of generated Verilog."""

from pathlib import Path

import pytest

from nupes.arch.config import ArrayConfig
from nupes.sim import verilog as module
from nupes.sim.verilog import generate


def test_verilog_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    texts: list[str] = []

    def verilog(config: ArrayConfig) -> str:
        texts.append(f"module for {config}")
        return texts[-1]

    monkeypatch.setattr("nupes.rtl.verilog", verilog)
    lines: list[str] = []
    small, large = ArrayConfig(rows=4, cols=4), ArrayConfig(rows=8, cols=8)
    for config in (small, large, small, ArrayConfig(rows=4, cols=4)):
        assert generate(config, lines.append) == f"module for {config}"
    assert len(texts) == 2
    assert lines == [f"generating the Verilog of the {config} array" for config in (small, large)]
    # Another version of a tool is another text.
    monkeypatch.setattr(module, "tool_version", lambda package: "0")
    generate(small, lines.append)
    assert len(texts) == 3
    # And so is a change of any source; what is damaged is generated again.
    monkeypatch.setattr(module, "SOURCES", {module.TOP: "edited"})
    monkeypatch.setattr(module, "hash_sources", lambda _: "edited")
    generate(small, lines.append)
    assert len(texts) == 4
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert generate(small, lines.append) == f"module for {small}"
    assert len(texts) == 5
    assert {path.suffix for path in tmp_path.iterdir()} == {".v"}


def test_an_edit_of_the_sources_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUPES_CACHE", str(tmp_path))
    monkeypatch.setattr("nupes.rtl.verilog", lambda config: "module of the code loaded before")
    monkeypatch.setattr(module, "hash_sources", lambda _: "edited")
    assert generate(ArrayConfig(4, 4), lambda _: None) == "module of the code loaded before"
    assert list(tmp_path.iterdir()) == []
