"""``nupes quantize``: from models and data to a network."""

import json
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes import inputs
from nupes.cli import main
from tests.commands.run import refused


def test_quantize_from_data_and_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", "model.py:build", "--scheme", "W4A4", "--calibration", "data.npz"]
    assert main([*words, "-o", "new.safetensors"]) == 0
    assert "new.safetensors: 2 layers" in capsys.readouterr().out
    assert nupes.load("new.safetensors").the_output.shape == (3,)


def test_quantize_without_data_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", "model.py:build", "--input-shape", "1,4,4", "--input-range=-1,15"]
    assert main([*words, "-o", "new.safetensors", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == "new.safetensors"
    assert report["bytes"] == Path("new.safetensors").stat().st_size


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_quantize_an_exported_program(folder: Path) -> None:
    import torch

    module = inputs.load_model("model.py:build")
    assert isinstance(module, torch.nn.Module)
    program = torch.export.export(module.eval(), (torch.zeros(2, 1, 4, 4),))
    torch.export.save(program, "model.pt2")
    assert main(["quantize", "model.pt2", "--calibration", "data.npz", "-o", "a.safetensors"]) == 0
    assert main(["quantize", "model.py:build", "--calibration", "data.npz"]) == 0
    images = inputs.load_array("data.npz")
    a, b = nupes.load("a.safetensors"), nupes.load("net.safetensors")
    np.testing.assert_array_equal(a(images), b(images))
    floats = inputs.run_model(inputs.load_model("model.pt2"), images[:5])
    np.testing.assert_allclose(floats, inputs.run_model(module, images[:5]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.py"], "model must be FILE.py:CALLABLE or FILE.pt2, not 'model.py'"),
        (["none.py:build"], "model none.py must be an existing file"),
        (["none.pt2"], "model none.pt2 must be an existing file"),
        (["fake.pt2"], "model fake.pt2 must be a file from torch.export.save"),
        (
            ["model.py:load"],
            "model model.py must define 'load'; it defines build, broken, number, ",
        ),
        (["model.py:WEIGHTS"], "model model.py:WEIGHTS must be callable, not list"),
        (["model.py:broken"], "model model.py:broken() raised OSError: no checkpoint here"),
        (["model.py:number"], "model model.py:number() must return a torch.nn.Module, not int"),
        (["model.py:leave"], "model model.py:leave() raised SystemExit: no GPU here"),
        (["model.py:empty"], "parameter '0.weight' must have values, not be on the meta device"),
        (["syntax.py:build"], "model syntax.py raised SyntaxError"),
        (["exits.py:build"], "model exits.py raised SystemExit: 0"),
        (["model.py:build", "--scheme", "W4"], "scheme must"),
        (["model.py:build", "--scheme", "W1A4"], "scheme"),
        (["model.py:build", "--ends", "1"], "ends must"),
        (
            ["model.py:build", "--ends", "none"],
            "ends must be a number of bits or 'scheme', not 'none'",
        ),
        (["model.py:build", "--codebook", "log"], "codebook must"),
        (["model.py:build", "--override", "conv"], "override must be PATTERN=SCHEME"),
        (["model.py:build", "--input-shape", "4,4,4,4"], "input shape must be one to three sizes"),
        (["model.py:build", "--input-range", "3"], "input range must be LOW,HIGH"),
        (["model.py:build", "-o", "none/net.safetensors"], "output path none/net.safetensors must"),
        (["model.py:build", "--calibration", "data.npz:narrow"], ""),
        (["model.py:build"], "calibration must be given"),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    Path("fake.pt2").write_bytes(b"PK")
    Path("syntax.py").write_text("def build(:")
    Path("exits.py").write_text("raise SystemExit(0)")
    if "--calibration" not in words and words != ["model.py:build"]:
        words = [*words, "--calibration", "data.npz"]
    assert refused(capsys, "quantize", *words).startswith(message)


@pytest.mark.parametrize(("ends", "bits"), [("scheme", 4), ("6", 6)])
def test_bits_of_the_ends(folder: Path, ends: str, bits: int) -> None:
    words = ["quantize", "model.py:build", "--calibration", "data.npz", "--method", "rtn"]
    assert main([*words, "--ends", ends, "-o", "new.safetensors"]) == 0
    assert nupes.load("new.safetensors").the_input.tensor.codebook.bits == bits
