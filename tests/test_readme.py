"""The README's Python runs as it stands, in order."""

import re
from pathlib import Path
from typing import Any

import pytest

import nupes

README = Path(__file__).parents[1] / "README.md"


def blocks(text: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def execute(sources: list[str]) -> dict[str, Any]:
    """Run blocks one after another; return their names."""
    names: dict[str, Any] = {}
    for source in sources:
        exec(compile(source, str(README), "exec"), names)
    return names


def test_every_name_is_public() -> None:
    for source in blocks(README.read_text(encoding="utf-8")):
        compile(source, str(README), "exec")
        for name in re.findall(r"\bnupes\.([A-Za-z_]+)\(", source):
            assert name in nupes.__all__


@pytest.mark.slow
def test_python_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = blocks(README.read_text(encoding="utf-8"))
    assert len(sources) == 3
    names = execute(sources)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    assert "module nupes_accelerator" in names["verilog"]
    assert (names["logits"].argmax(1) == names["labels"]).mean() > 0.95
    assert sum(layer.cycles for layer in names["program"].layers) == names["program"].cycles
    assert names["result"].outputs.shape == (3, 10)
