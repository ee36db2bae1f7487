"""What is measured of a language model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.distributions import divergence
from benchmarks.language import BEGIN, log_probabilities, loss, read_windows


def test_windows_lie_back_to_back(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcdefgh" * 100)
    letters = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=[ord(c) for c in text]))
    found = read_windows(path, letters, 3, 2)
    assert found.tolist() == [[BEGIN, 97, 98, 99], [BEGIN, 100, 101, 102]]


def test_a_guess_costs_its_logarithm() -> None:
    windows = np.array([[1, 2, 0], [1, 1, 1]])
    logits = np.log(np.array([[[1, 1, 2], [2, 1, 1]], [[1, 2, 1], [2, 1, 1]]], np.float32))
    found = log_probabilities(lambda ids: logits[ids[:, 1] - 1][::-1], windows)
    np.testing.assert_allclose(found.exp().sum(2), 1)
    assert loss(found, windows).tolist() == pytest.approx([np.log(2), np.log(8) / 2])
    assert (divergence(found, found) == 0).all()
    even = torch.full_like(found, -np.log(3))
    expected = np.log(3) + (0.5 * np.log(0.5) + 0.5 * np.log(0.25))
    assert divergence(found, even).mean(1).tolist() == pytest.approx([expected] * 2)
