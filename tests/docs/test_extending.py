"""The extensions that the documentation shows: their diffs apply, and what they add works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "extending.md"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "out", "site")


def sections() -> dict[str, list[Block]]:
    """Return the blocks of every section that shows a diff, by its heading."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Block]] = {}
    for block in blocks(PAGE):
        heading = next(line[3:] for line in reversed(lines[: block.line]) if line[:3] == "## ")
        found.setdefault(heading, []).append(block)
    return found


def apply(section: str, folder: Path, *options: str) -> None:
    """Apply the diffs of a section to sources."""
    diff = "".join(block.text for block in sections()[section] if block.language == "diff")
    command = ["git", "apply", *options, "-"]
    result = subprocess.run(
        command, input=diff, capture_output=True, text=True, check=False, cwd=folder
    )
    assert result.returncode == 0, result.stderr


def test_every_block_is_a_diff_or_its_tests() -> None:
    assert len(sections()) == 5
    for found in sections().values():
        assert {block.language for block in found} == {"diff", "sh"}


@pytest.mark.parametrize("section", sections())
def test_diffs_apply(section: str) -> None:
    apply(section, ROOT, "--check")


@pytest.mark.slow
@pytest.mark.parametrize("section", sections())
def test_extensions_work(section: str, tmp_path: Path) -> None:
    copy = tmp_path / "nupes"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    apply(section, copy)
    for block in sections()[section]:
        for line in block.text.splitlines() if block.language == "sh" else ():
            words = [sys.executable, *shlex.split(line)[1:], "-m", "not slow"]
            result = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy)},
            )
            assert result.returncode == 0, result.stdout[-4000:]
            assert re.search(r"\d+ passed", result.stdout)
