"""How the tests run a command."""

import re
from pathlib import Path

import pytest

from nupes.cli import main
from nupes.model.error_catalogue import PAGE
from tests.small import ARRAY

__all__ = ["ARRAY_TEXT", "message_of", "refused"]

ARRAY_TEXT = f"{ARRAY},acc_depth={ARRAY.acc_depth}"


def message_of(line: str) -> str:
    """Return the message of a line "error: ... (place that explains it)"."""
    match = re.fullmatch(rf"error: (.*) \({re.escape(PAGE)}#[\w-]+\)", line)
    assert match is not None, line
    return match[1]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with one line on stderr; return its message."""
    before = sorted(Path.cwd().iterdir())
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *_, line = captured.err.splitlines()
    assert "Traceback" not in captured.err
    assert sorted(path for path in Path.cwd().iterdir() if path.name != "__pycache__") == before
    return message_of(line)
