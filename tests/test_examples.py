"""Every example script runs as its user runs it, with small settings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nupes
from tests.small import ARRAY, small_network

ROOT = Path(__file__).parents[1]
QUICK = ("--method", "rtn")


def run(folder: Path, name: str, *words: str) -> str:
    """Run an example in a directory of its own; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", f"nupes.examples.{name}", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_script_has_a_test() -> None:
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert scripts == {"choose_array", "cifar_resnet20", "own_network", "run_digits"}


def test_choosing_an_array(tmp_path: Path) -> None:
    small_network().save(tmp_path / "net.safetensors")
    words = ("net.safetensors", "--sizes", "2", "4", "--cycles")
    assert "smallest within 100,000 cycles: 2x2" in run(tmp_path, "choose_array", *words, "100000")
    assert "no array is within 1 cycles" in run(tmp_path, "choose_array", *words, "1")


def test_own_network(tmp_path: Path) -> None:
    assert "IntegerNetwork(W4A4, " in run(tmp_path, "own_network")
    assert nupes.load(tmp_path / "my_network.safetensors").the_output.shape == (10,)


@pytest.mark.slow
def test_digits(tmp_path: Path) -> None:
    array = f"{ARRAY},acc_depth={ARRAY.acc_depth}"
    text = run(tmp_path, "run_digits", "--array", array, "--images", "1", *QUICK)
    assert "bit-exact 1/1 images" in text


@pytest.mark.slow
def test_training_the_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nupes.examples.digits import network, train

    for module in (network, train):
        monkeypatch.setattr(module, "CHECKPOINT", tmp_path / "d.safetensors")
    monkeypatch.setattr(train, "EPOCHS", 10)
    train.main()
    assert "epoch 10: test accuracy 0.9" in capsys.readouterr().out
    images, labels = network.load_split()["test"]
    assert train.accuracy(network.load_network(), images, labels) > 0.9


@pytest.mark.slow
def test_cifar_resnet20(tmp_path: Path) -> None:
    import torch

    from nupes.examples.pretrained.resnet20 import ResNet20

    torch.manual_seed(0)
    torch.save({"state_dict": ResNet20().state_dict()}, tmp_path / "r.th")
    images = np.random.default_rng(0).uniform(0, 1, (4, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "c.npz", x=images, y=np.zeros(4, np.int64), calibration=images)
    text = run(tmp_path, "cifar_resnet20", "--checkpoint", "r.th", "--data", "c.npz", *QUICK)
    assert "accuracy on 4 images: float " in text
    assert nupes.load(tmp_path / "resnet20.safetensors").the_output.shape == (10,)
