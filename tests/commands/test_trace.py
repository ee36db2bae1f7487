"""``--trace`` of ``nupes compile`` and ``nupes simulate``."""

import json
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.cli import main
from nupes.compiler.report.trace import chrome_trace
from tests.images import images_of
from tests.small import ARRAY, small_network

ARRAY_TEXT = f"{ARRAY},acc_depth={ARRAY.acc_depth}"


@pytest.mark.parametrize("command", ["compile", "simulate"])
def test_a_trace_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    small_network().save("net.safetensors")
    np.savez("data.npz", x=images_of(small_network(), 1))
    data = ["data.npz"] if command == "simulate" else []
    words = [command, "net.safetensors", *data, "--array", ARRAY_TEXT]
    assert main([*words, "--trace", "run.json"]) == 0
    expected = chrome_trace(nupes.compile(small_network(), ARRAY))
    assert json.loads(Path("run.json").read_text()) == expected
    capsys.readouterr()
    assert main([*words, "--trace", "run.txt"]) == 2
    assert "trace must be saved as .json, not 'run.txt'" in capsys.readouterr().err
