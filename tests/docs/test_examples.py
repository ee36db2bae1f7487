"""Every example of the documentation runs, page by page, as a reader would run it.

Interactive examples are doctests. Of the fenced blocks, one with a title is the file of that name;
``python`` blocks of a page run one after another in one interpreter, ``sh`` blocks in bash, all in
one directory that holds the files of ``prepared``. Commands that install or test, and benchmarks,
which need data, are checked and not run. Blocks of other languages are not executed.
"""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import nupes
from nupes.cli import app
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of

RUNNABLE = [
    page
    for page in PAGES
    if any(b.language in ("python", "sh") and not b.title for b in blocks(page))
]
SECONDS = 1800


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def is_checked_only(command: str) -> bool:
    """Whether a command installs, measures or tests something."""
    words = command.split()
    module = words[2] if words[:2] == ["python", "-m"] else ""
    return words[0] in ("make", "pip", ".") or re.match(r"benchmarks\.|pytest", module) is not None


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the files that pages take for granted: a model, data, its network."""
    from nupes.examples.digits.network import load_network, load_split

    folder = tmp_path_factory.mktemp("prepared")
    split = load_split()
    images, labels = split["test"]
    np.savez(folder / "calibration.npz", x=split["calibration"][0][:32])
    np.savez(folder / "test.npz", x=images[:50], y=labels[:50])
    model = "from nupes.examples.digits.network import load_network as load\n"
    (folder / "model.py").write_text(model)
    network = nupes.quantize(load_network(), "W4A4", split["calibration"][0][:32], method="search")
    network.save(folder / "net.safetensors")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_interactive_examples(page: Path) -> None:
    failed, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_blocks_are_well_formed(page: Path) -> None:
    """Python compiles, its names are public; commands and their options exist."""
    group: Any = typer.main.get_command(app)
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, name_of(page), "exec")
            for name in re.findall(r"\bnupes\.([A-Za-z_]+)\(", block.text):
                assert name in nupes.__all__
        for command in commands(block) if block.language == "sh" else ():
            words = shlex.split(command, comments=True)
            if words[0] == "nupes":
                group.commands[words[1]].make_context(words[1], words[2:])
            elif words[0] == "make":
                assert re.search(f"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            for extra in re.findall(r"\[(\w+)\]", command) if "pip" in words[:3] else ():
                project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
                assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_is_outside_a_fenced_block(page: Path) -> None:
    """Blocks that are only indented would not be run."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    assert re.findall(r"^ {4,}(?:\$ )?(?:nupes|python|pip|make) .*", text, re.MULTILINE) == []


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_blocks_run(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    bin_first = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", bin_first)
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in blocks(page):
            if block.title:
                Path(block.title).write_text(block.text)
            elif block.language == "python":
                source = "\n" * (block.line - 1) + block.text
                exec(compile(source, name_of(page), "exec"), names)
            elif block.language == "sh":
                run_shell(block)
    finally:
        for name in ("model", "encoder"):
            sys.modules.pop(name, None)
    if page.name == "README.md":
        assert (names["logits"].argmax(1) == names["labels"]).mean() > 0.95
        assert names["result"].outputs.shape == (3, 10)


def run_shell(block: Block) -> None:
    """Run the commands of a block; of those that are checked only, ask for the options' help."""
    script = []
    for command in commands(block):
        words = shlex.split(command, comments=True)
        if not is_checked_only(command):
            script.append(command)
        elif words[2:3] != ["pytest"] and words[0] == "python":
            output = run_script(f"{shlex.join(words[:3])} --help", ROOT)
            assert set(re.findall(r"--[a-z-]+", command)) <= set(re.findall(r"--[a-z-]+", output))
    run_script("\n".join(script), Path.cwd())


def run_script(script: str, folder: Path) -> str:
    """Run bash; return what it prints."""
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True, text=True, check=False, cwd=folder, timeout=SECONDS,
    )  # fmt: skip
    assert result.returncode == 0, f"{script}\n{result.stdout}{result.stderr}"
    return result.stdout
