"""``nupes report``: the file, the JSON, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.cli import main
from tests.small import ARRAY, small_network

ARRAY_TEXT = f"{ARRAY},acc_depth={ARRAY.acc_depth}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands work in a directory of their own that holds a network and data."""
    monkeypatch.chdir(tmp_path)
    network = small_network()
    network.save("net.safetensors")
    images = np.random.default_rng(1).uniform(0, 15, (6, 1, 4, 4))
    np.savez("data.npz", x=images, y=network(images).argmax(axis=1))
    np.savez("bare.npz", x=images)
    Path("bits.json").write_text('[{"bits": 4, "accuracy": 0.5}]')


def test_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "net.safetensors", "--array", ARRAY_TEXT, "--images", "data.npz"]
    assert main([*words, "--accuracy", "bits.json", "--no-sweep", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    text = Path("report.html").read_text(encoding="utf-8")
    assert found["path"] == "report.html"
    assert found["bytes"] == len(text.encode())
    assert found["accuracy"] == 1.0
    assert found["cycles"] == nupes.compile(small_network(), ARRAY).cycles
    assert "Accuracy against bits" in text
    assert "Which array" not in text


def test_arrays_are_compared_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "net.safetensors", "--images", "bare.npz", "-o", "page.html"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("page.html: 2 layers, ")
    assert "Which array" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accuracy", "none.json"], "accuracies none.json must be a JSON file"),
        (["--accuracy", "data.npz"], "accuracies data.npz must be a JSON file"),
        (["--model", "m.py:f"], "images must be given to compare with a model"),
        (["--model", "m.py:f", "--images", "bare.npz"], "labels 'y' must be in the data to"),
        (["--area", "xc7"], "target must be one of xilinx, "),
        (["-o", "none/report.html"], "output path none/report.html must be writable"),
    ],
)
def test_bad_input(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path.cwd().iterdir())
    assert main(["report", "net.safetensors", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(Path.cwd().iterdir()) == before


def test_without_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nupes.report.page", None)
    assert main(["report", "net.safetensors"]) == 2
    assert 'run: pip install "nupes[report]"' in capsys.readouterr().err
