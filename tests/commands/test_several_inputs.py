"""Commands on a model of several inputs: shapes and ranges one after another, data by its keys."""

import json
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.cli import main
from tests.commands.run import ARRAY_TEXT, refused

SHAPES = ["--input-shape", "1,4,4", "--input-shape", "1,4,4"]


@pytest.fixture
def pair(folder: Path) -> Path:
    """Return the working directory, with the data of two inputs."""
    a, b = np.random.default_rng(0).normal(size=(2, 6, 1, 4, 4)).astype(np.float32)
    np.savez("two.npz", a=a, b=5 * b, y=(a + 5 * b).reshape(6, -1).argmax(1), few=b[:3])
    return folder


def test_every_command(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model.py:Pair", "--calibration", "two.npz:a,b"]
    assert main(["check", *words, "--array", ARRAY_TEXT]) == 0
    assert main(["quantize", *words, "--scheme", "W8A8", "-o", "two.safetensors"]) == 0
    data = ["two.safetensors", "two.npz:a,b"]
    capsys.readouterr()
    assert main(["evaluate", *data, "--model", "model.py:Pair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["float"] == 1
    assert main(["simulate", *data, "--array", ARRAY_TEXT, "--images", "2", "--layers"]) == 0
    assert "bit-exact 2/2 images" in capsys.readouterr().out
    words = ["--array", ARRAY_TEXT, "--images", "two.npz:a,b", "-o", "two.html"]
    assert main(["report", "two.safetensors", *words]) == 0


def test_inputs_that_are_made_up(pair: Path) -> None:
    words = ["quantize", "model.py:Pair", *SHAPES, "--scheme", "W8A8", "-o", "two.safetensors"]
    assert main(["check", "model.py:Pair", *SHAPES]) == 0
    assert main([*words, "--input-range=-1,1", "--input-range=-9,9"]) == 0
    first, second = nupes.load("two.safetensors").inputs
    assert second.tensor.scale == pytest.approx(9 * first.tensor.scale, rel=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["check", "model.py:Pair", "--input-shape", "1,4,4"],
            "module must be given a shape for each of its 2 inputs (x, y), not 1",
        ),
        (
            ["quantize", "model.py:Pair", "--calibration", "two.npz:a"],
            "calibration must have an array for each of the module's 2 inputs, in a tuple, not 1",
        ),
        (
            ["quantize", "model.py:Pair", "--calibration", "two.npz:a,few"],
            "data two.npz, keys a,few must hold as many images each, not [6, 3]",
        ),
        (["simulate", "net.safetensors", "two.npz:a,b"], "network must get 1 inputs, not 2"),
    ],
)
def test_bad_inputs_are_refused(
    pair: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words) == message
