"""``nupes simulate``: the comparison, waveforms, and what it refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import nupes
from nupes.cli import main
from nupes.commands import simulate
from tests.commands.run import ARRAY_TEXT, refused
from tests.sim.conftest import needs_icarus
from tests.small import ARRAY
from tests.test_masks import masked


def test_simulate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "4"]
    assert main([*words, "--layers"]) == 0
    assert "bit-exact 4/4 images, 2/2 layers" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["exact"] is True
    assert report["measured_cycles"] == [report["predicted_cycles"]] * 4


def test_simulate_in_batches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "4"]
    words += ["--batch", "3", "--layers"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "bit-exact 4/4 images, 2/2 layers" in shown
    assert "cycles per batch of 3 images: predicted" in shown
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["measured_cycles"] == [report["predicted_cycles"]] * 2


@pytest.mark.slow
@needs_icarus
def test_simulate_on_a_bus(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values are compared; cycles over a bus are measured and no part of the verdict."""
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "1"]
    words += ["--simulator", "icarus", "--bus", "axi4"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^bit-exact 1/1 images$", shown, re.MULTILINE)
    assert re.search(r"predicted without a bus ([\d,]+), measured over axi4 [\d,]+ \(\+", shown)
    assert main([*words, "--layers", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["exact"], report["bus"], report["exact_layers"]) == (True, "axi4", 2)
    assert report["measured_cycles"][0] > report["predicted_cycles"]


def test_simulate_records_waves(folder: Path) -> None:
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "1"]
    assert main([*words, "--waves", "run.vcd"]) == 0
    assert Path("run.vcd").read_text().startswith(("$version", "$date"))


@pytest.mark.parametrize(
    ("error", "left"), [(KeyboardInterrupt, False), (nupes.SimulationError, True)]
)
def test_an_interrupt_leaves_no_waves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], left: bool
) -> None:
    def stop(hw: nupes.Simulator, *_: object) -> None:
        raise error("here")

    monkeypatch.setattr("nupes.verify.check_outputs", stop)
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "1"]
    before = set(folder.iterdir())
    assert main([*words, "--waves", "run.vcd"]) in (2, 130)
    assert {path.name for path in set(folder.iterdir()) - before} == (
        {"run.vcd"} if left else set()
    )


def test_a_mismatch_ends_with_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is made to disagree in one threshold of one layer."""
    real = simulate.load

    def load(path: Path) -> nupes.IntegerNetwork:
        network = real(path)
        run = network.run_all
        object.__setattr__(network, "run_all", lambda *codes: tuple(y + 1 for y in run(*codes)))
        return network

    monkeypatch.setattr(simulate, "load", load)
    words = ["simulate", "net.safetensors", "data.npz", "--array", ARRAY_TEXT, "--images", "2"]
    assert main(words) == 1
    assert "MISMATCH 0/2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["simulate", "net.safetensors", "data.npz:narrow"],
            "images must have shape (batch, 1, 4, 4), not (6, 1, 3, 4)",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--images", "0"],
            "images must be at least 1, not 0",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--simulator", "modelsim"],
            "simulator must be one of verilator, icarus, not 'modelsim'",
        ),
        (
            ["simulate", "net.safetensors", "data.npz", "--waves", "run.txt"],
            "waves must be a .vcd or .fst file, not 'run.txt'",
        ),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert refused(capsys, *words).startswith(message)


LARGE = """
import torch
from torch import nn

def load():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(2060, 2060))
"""


@pytest.mark.slow
def test_a_program_of_any_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The memory of a simulator follows from the program: nothing to configure."""
    Path("large.py").write_text(LARGE)
    np.savez("data.npz", x=np.random.default_rng(0).normal(size=(2, 2060, 1, 1)))
    words = ["quantize", "large.py:load", "--calibration", "data.npz", "--method", "rtn"]
    assert main([*words, "--ends", "scheme", "-o", "large.safetensors"]) == 0
    program = nupes.compile(nupes.load("large.safetensors"), ARRAY)
    assert len(program.image) > 1 << 20
    words = ["simulate", "large.safetensors", "data.npz", "--images", "1", "--array", ARRAY_TEXT]
    assert main(words) == 0
    assert "bit-exact 1/1 images, 1/1 layers" in capsys.readouterr().out


def test_a_length_of_zero_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masked(4, np.ones((1, 4), bool), 0).save("masked.safetensors")
    mask = np.ones((3, 1, 4), np.float32)
    mask[2] = 0
    np.savez("lengths.npz", x=np.ones((3, 4, 3), np.float32), mask=mask[:, 0])
    words = ["masked.safetensors", "lengths.npz:x,mask", "--array", f"{ARRAY_TEXT},attention=1"]
    message = "input 'mask': a mask must leave every query a key, not none in sample 2"
    assert refused(capsys, "simulate", *words) == message
