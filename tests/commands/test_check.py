"""``nupes check``: what it says of models that run, and of ones that do not."""

import json
from pathlib import Path

import numpy as np
import pytest

from nupes.cli import main

MODEL = """
from torch import nn

def good():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )

def deep():
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 3), act) for act in (
        nn.SiLU(), nn.ReLU(), nn.Tanh()
    )))

def attention():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Unflatten(1, (2, 2)), nn.LayerNorm(6), nn.Linear(6, 3)
    )

def halves():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(4, 3, 1)

        def forward(self, x):
            one, other = self.first(x).relu().chunk(2, 1)
            return self.last(one) + self.last(other)
    return Halves()

def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True)
    layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(6, 8), layers, nn.Linear(8, 3))

def bad():
    parts = nn.Conv2d(1, 4, 3), nn.LogSoftmax(1), nn.Conv2d(4, 4, 1), nn.Flatten()
    return nn.Sequential(*parts, nn.Softmax(1))

def large():
    return nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 3))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands work in a directory of their own that holds a model."""
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(MODEL)


def test_a_model_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "model.py:good", "--input-shape", "1,4,4", "--array", "4x4"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "conv 3x3 + relu" in text
    assert "will run: about " in text
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runs"] is True
    assert [layer["name"] for layer in report["layers"]] == ["0", "4"]
    assert [layer["macs"] for layer in report["layers"]] == [16 * 36, 64 * 3]
    assert [layer["parameters"] for layer in report["layers"]] == [36 + 4, 64 * 3 + 3]
    assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles"]


@pytest.mark.parametrize("mac", ["uniform", "square", "pair"])
def test_codebooks_that_the_cells_hold(mac: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "model.py:deep", "--input-shape", "1,8,8", "--array", f"4x4,mac={mac}"]
    assert main(words) == 0
    assert f"; quantize with --cell {mac}\n" in capsys.readouterr().out


def test_every_operator_that_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("data.npz", x=np.zeros((3, 1, 8, 8)))
    words = ["check", "model.py:bad", "--calibration", "data.npz"]
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "log_softmax in module '1': is not supported\n  -> replace it, or" in text
    assert "will not run: 2 operators must be replaced" in text
    assert main([*words, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(item["module"], item["operator"]) for item in report["problems"]] == [
        ("1", "log_softmax"),
        ("4", "softmax"),
    ]
    assert report["layers"] == []


def test_what_stands_behind_a_refusal_may_not_run_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["check", "model.py:attention", "--input-shape", "1,8,8"]
    assert main(words) == 1
    assert "will not run: at least 1 operator must be replaced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "shape", "array"),
    [
        ("halves", "1,8,8", "4x4"),
        ("encoder", "5,6", "4x4,attention=1"),
        ("encoder", "5,6", "4x4,attention=1,acc_depth=4"),  # blocks of queries
        ("encoder", "5,6", "8x8,attention=1"),  # copies of heads
    ],
)
def test_every_cycle_is_of_a_layer(
    capsys: pytest.CaptureFixture[str], model: str, shape: str, array: str
) -> None:
    words = ["check", f"model.py:{model}", "--input-shape", shape, "--array", array]
    assert main(words) == 0
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out[out.index("{") :])
    cycles = [layer["cycles"] for layer in found["layers"]]
    assert sum(cycles) == found["cycles"]


def test_a_wrong_shape_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.py:good", "--input-shape", "3,8,8"]) == 2
    text = capsys.readouterr().err
    assert "must accept images of shape (3, 8, 8), not fail with" in " ".join(text.split())


def test_a_model_that_an_array_cannot_hold(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "model.py:large", "--input-shape", "1,40,40", "--array", "4x4,act_depth=256"]
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "will not run on the 4x4 array" in text
    assert "act_depth" in text


def test_the_shape_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.py:good"]) == 2
    assert "input shape must be given, such as --input-shape 3,32,32" in capsys.readouterr().err


def test_shapes_of_sequences_and_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    Path("line.py").write_text(
        "from torch import nn\n\ndef line():\n    return nn.Conv1d(3, 4, 3)\n"
    )
    np.savez("lines.npz", x=np.zeros((2, 3, 8)), wrong=np.zeros(3))
    assert main(["check", "line.py:line", "--input-shape", "3,8"]) == 0
    assert main(["check", "line.py:line", "--calibration", "lines.npz"]) == 0
    assert "1x6x4" in capsys.readouterr().out
    assert main(["check", "line.py:line", "--calibration", "lines.npz:wrong"]) == 2
    assert "images must have two to four dimensions, the first the" in capsys.readouterr().err
