"""The README's Python runs as it stands, in order."""

import re
from pathlib import Path
from typing import Any

import pytest

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


def test_python_without_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = blocks(README.read_text(encoding="utf-8"))
    assert len(sources) == 3
    names = execute([source for source in sources if "Simulator" not in source])
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    assert "module nupes_accelerator" in names["verilog"]
    assert (names["logits"].argmax(1) == names["labels"]).mean() > 0.95
    assert sum(layer.cycles for layer in names["program"].layers) == names["program"].cycles


@pytest.mark.slow
def test_python_with_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = execute(blocks(README.read_text(encoding="utf-8"))[:2])
    assert names["result"].outputs.shape == (3, 10)
