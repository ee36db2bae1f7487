"""Distributions of what a network predicts, and how far one is from another."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["divergence", "log_distribution"]


def log_distribution(logits: np.ndarray) -> Tensor:
    """Return the logarithms of probabilities, float64, from logits (..., classes)."""
    return torch.log_softmax(torch.from_numpy(logits).double(), -1)


def divergence(expected: Tensor, found: Tensor) -> Tensor:
    """Return the divergence (...) of Kullback and Leibler, in nats, of what is found from what is
    expected, both logarithms of probabilities (..., classes)."""
    return (expected.exp() * (expected - found)).sum(-1)
