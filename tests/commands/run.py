"""How the tests run a command."""

from pathlib import Path

import pytest

from nupes.cli import main
from tests.small import ARRAY

__all__ = ["ARRAY_TEXT", "refused"]

ARRAY_TEXT = f"{ARRAY},acc_depth={ARRAY.acc_depth}"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with one line on stderr; return the line without "error: "."""
    before = sorted(Path.cwd().iterdir())
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *_, line = captured.err.splitlines()
    assert "Traceback" not in captured.err
    assert sorted(path for path in Path.cwd().iterdir() if path.name != "__pycache__") == before
    prefix = "error: "
    assert line.startswith(prefix)
    return line[len(prefix) :]
