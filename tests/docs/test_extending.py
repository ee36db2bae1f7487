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


def diff_of(section: str) -> str:
    """Return the diffs of a section."""
    return "".join(block.text for block in sections()[section] if block.language == "diff")


def apply(section: str, folder: Path, *options: str) -> None:
    """Apply the diffs of a section to sources."""
    command = ["git", "apply", "-C1", *options, "-"]
    result = subprocess.run(
        command, input=diff_of(section), capture_output=True, text=True, check=False, cwd=folder
    )
    if result.returncode:
        places = re.findall(r"^error: (?:patch failed: )?(.+)", result.stderr, re.MULTILINE)
        pytest.fail(
            "lines that docs/extending.md quotes have changed: bring its diffs up to date\n"
            + "\n".join(place for place in places if "does not apply" not in place),
            pytrace=False,
        )


def test_every_block_is_a_diff_or_its_tests() -> None:
    assert len(sections()) == 5
    for found in sections().values():
        assert {block.language for block in found} == {"diff", "sh"}


@pytest.mark.parametrize("section", sections())
def test_diffs_apply(section: str) -> None:
    apply(section, ROOT, "--check")


def test_diffs_that_do_not_apply_name_the_places(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "errors.md"
    page.parent.mkdir()
    page.write_text("another page\n")
    with pytest.raises(pytest.fail.Exception) as error:
        apply("An operator made of known ones", tmp_path)
    message, *places = str(error.value).splitlines()
    assert message.endswith("bring its diffs up to date")
    assert any(place.startswith("docs/errors.md:") for place in places)
    assert any(place.startswith("tests/quantizer/test_operators.py: ") for place in places)


@pytest.mark.skipif(shutil.which("awk") is None, reason="no awk")
def test_the_command_gives_the_diffs_of_a_section() -> None:
    (command,) = re.findall(
        r"^    (awk .+) \| git apply -C1$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    found = subprocess.run(
        shlex.split(command), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout == diff_of("A new operator")


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
