"""``nupes export``: what it writes, prints and refuses."""

import json
from pathlib import Path

import onnx
import pytest

import nupes
from nupes.cli import main
from nupes.commands import export as command
from nupes.export.onnx import build_onnx
from tests.commands.run import message_of
from tests.model.tiny import tiny_network


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory that holds a network."""
    monkeypatch.chdir(tmp_path)
    tiny_network().save("net.safetensors")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail with one line and write nothing; return its message."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(["export", "net.safetensors", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sorted(Path.cwd().rglob("*")) == before
    return message_of(captured.err.strip())


def test_onnx_and_firmware(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--onnx", "net.onnx", "--input", "codes", "--firmware", "device", "--json"]
    assert main(["export", "net.safetensors", *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert onnx.load("net.onnx") == build_onnx(nupes.load("net.safetensors"), "codes")
    assert sorted(path.name for path in Path("device").iterdir()) == sorted(
        data["firmware"]["files"]
    )
    assert data["onnx"]["bytes"] == Path("net.onnx").stat().st_size


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "net.safetensors", "--firmware", "device"]) == 0
    assert capsys.readouterr().out == (
        "firmware: device/ (25 bytes of packed weights, 64 bytes of activation memory)\n"
    )


def test_something_must_be_exported(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys)
    assert line == "export must have at least one of --onnx, --qonnx, --firmware, --driver"


def test_unknown_input(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--onnx", "net.onnx", "--input", "bytes")
    assert line == "ONNX input must be one of float32, float64, codes, not 'bytes'"


def test_what_qonnx_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--qonnx", "net.onnx")
    assert line.startswith("layer 'one': weight codebook must have equally spaced levels in QONNX")


def test_one_format_that_is_refused_stops_all(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--onnx", "a.onnx", "--qonnx", "b.onnx", "--firmware", "device")
    assert line.startswith("layer 'one': weight codebook must have equally spaced levels in QONNX")
    Path("device").write_text("")
    line = refused(capsys, "--onnx", "a.onnx", "--firmware", "device")
    assert line == "output folder device must be writable: File exists"
    line = refused(capsys, "--onnx", "a.onnx", "--qonnx", "a.onnx")
    assert line == "--onnx and --qonnx must be two files, not both 'a.onnx'"


def test_missing_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    line = refused(capsys, "--onnx", "net.onnx")
    assert line == (
        '--onnx needs the package onnx, which is not installed; run: pip install "nupes[onnx]"'
    )
