"""A working directory for commands: a network, data, a model file."""

from pathlib import Path

import numpy as np
import pytest

from tests.small import small_network

MODEL = """
import torch
from torch import nn

WEIGHTS = [1, 2]

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )

def broken():
    raise OSError("no checkpoint here")

def number():
    return 3

def leave():
    raise SystemExit("no GPU here")

class Two(nn.Module):
    def forward(self, x):
        return x, x

class Few(nn.Module):
    def forward(self, x):
        return x[:1]

class Pair(nn.Module):
    def forward(self, x, y):
        return x + y

def empty():
    with torch.device("meta"):
        return build()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of a command: a network, data, a model file."""
    monkeypatch.chdir(tmp_path)
    small_network().save("net.safetensors")
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 15, (6, 1, 4, 4)).astype(np.float32)
    labels = small_network()(images).argmax(axis=1)
    np.savez("data.npz", x=images, y=labels, narrow=images[:, :, :3], words=np.array(["a"] * 6))
    Path("model.py").write_text(MODEL)
    return tmp_path
