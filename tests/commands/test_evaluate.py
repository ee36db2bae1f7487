"""``nupes evaluate``: accuracies, and what it refuses."""

import json
from pathlib import Path

import pytest

from nupes.cli import main
from tests.commands.run import refused


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "net.safetensors", "data.npz"]) == 0
    assert capsys.readouterr().out == "integer accuracy 100.00% of 6 images\n"
    assert main(["evaluate", "net.safetensors", "data.npz:x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"images": 6, "integer": 1.0}


def test_evaluate_compares_with_the_float_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "net.safetensors", "data.npz", "--model", "model.py:build"]) == 0
    assert "float accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evaluate", "none.safetensors", "data.npz"],
            "artifact none.safetensors must be an existing file",
        ),
        (["evaluate", "data.npz", "data.npz"], "artifact data.npz must be a complete safetensors"),
        (["evaluate", "net.safetensors", "no.npz"], "data no.npz must be an existing .npz file"),
        (
            ["evaluate", "net.safetensors", "model.py"],
            "data model.py must be a complete .npz file",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:images"],
            "data data.npz must hold the key 'images'; it holds x, y, narrow, words",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz", "--labels", "x"],
            "labels 'x' must be one integer for each of the 6 images, not float32 of shape",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:narrow"],
            "images must have shape (batch, 1, 4, 4), not (6, 1, 3, 4)",
        ),
        (
            ["evaluate", "net.safetensors", "data.npz:words"],
            "data data.npz, key 'words' must be real numbers, not <U1",
        ),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Two", "model must return one result for each of 6 images, not tuple"),
        ("Few", "model must return one result for each of 6 images, not (1, 1, 4, 4)"),
        ("Pair", "model does not take images (6, 1, 4, 4): "),
    ],
)
def test_models_that_cannot_be_compared_with(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    words = ["evaluate", "net.safetensors", "data.npz", "--model", f"model.py:{model}"]
    assert refused(capsys, *words).startswith(message)
