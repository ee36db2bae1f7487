"""``nupes demo``: the whole flow."""

import json
from pathlib import Path

import pytest

from nupes.cli import main
from tests.commands.run import ARRAY_TEXT, refused


def test_demo(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--images", "2", "--array", ARRAY_TEXT, "--scheme", "W3A3", "-o", "out"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "bit-exact 2/2 images" in captured.out
    assert "simulating 2 images on the RTL ..." in captured.err
    report = json.loads(Path("out/report.json").read_text())
    assert report["check"]["exact"] is True
    assert report["check"]["exact_layers"] == len(report["program"]["layers"])
    assert min(report["float_accuracy"], report["integer_accuracy"]) > 0.9
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "digits.npz",
        "net.safetensors",
        "nupes_accelerator.v",
        "report.json",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--images", "0"], "images must be 1 to"),
        (["demo", "--scheme", "W1A4"], "scheme must be WxAy"),
        (
            ["demo", "--simulator", "modelsim"],
            "simulator must be one of verilator, icarus, not 'modelsim'",
        ),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)
